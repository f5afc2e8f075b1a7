// Header, contents, static figures, files and theme; starts the page.

/** Links to files, as a paragraph; empty without any. */
function fileLinks(files) {
  const line = make("p", "", { className: "files" });
  line.append(...files.map(([label, href]) => make("a", label, { href })));
  line.hidden = !files.length;
  return line;
}

function makeTexts() {
  const list = (id, texts) => $(id).append(...texts.map((text) => make("li", text)));
  for (const [label, value] of page.zoo.settings) {
    const pair = make("div");
    pair.append(make("dt", label), make("dd", value));
    $("settings").append(pair);
  }
  list("twins", page.zoo.twins);
  $("twins-title").textContent = count(page.zoo.twins.length, "twin");
  $("twins-section").hidden = !page.zoo.twins.length;
  $("twins-section").open = page.zoo.twins.length <= 4;
  list("notes", page.notes);
  $("notes-section").hidden = !page.notes.length;
  const versions = Object.entries(page.versions).map(([name, version]) => `${name} ${version}`);
  $("versions").textContent = versions.length ? `Made with ${versions.join(", ")}.` : "";
  $("versions").hidden = !versions.length;
  $("source").textContent = `The paper's tables: ${page.source}.`;
}

/** The static figures, from the templates of the page: the same order as in the data. */
function makeDrawings() {
  const drawings = [...document.querySelectorAll("body > template")];
  page.figures.forEach(({ name, caption, further, files }, i) => {
    const figure = make("figure", "", { id: `figure-${name}` });
    const box = make("div", "", { className: "sideways", tabIndex: 0 });
    const drawing = drawings[i].content.firstElementChild;
    drawing.setAttribute("role", "img");
    drawing.setAttribute("aria-label", caption);
    box.append(drawing);
    figure.append(box, make("figcaption", caption), fileLinks(files));
    if (further === null) {
      $("drawings").append(figure);
      return;
    }
    // There is one for each twin.
    const details = make("details");
    details.append(make("summary", further), figure);
    $("drawings").append(details);
  });
  $("figures-section").hidden = !page.figures.length;
}

function makeFiles() {
  const figures = page.figures.map(({ name, files }) => [name, files]);
  for (const [name, files] of [...Object.entries(page.files), ...figures]) {
    const line = make("li", `${name} `);
    line.append(fileLinks(files));
    $("files-list").append(line);
  }
  $("files-section").hidden = !$("files-list").firstChild;
}

/** Contents: all sections that are shown. */
function makeContents() {
  for (const heading of document.querySelectorAll("main h2[id], main h3[id]")) {
    if (!heading.closest("[hidden]")) {
      $("contents").append(make("a", heading.textContent, { href: `#${heading.id}` }));
    }
  }
}

function makeTheme() {
  const root = document.documentElement;
  const show = () => {
    $("theme").textContent = isDark() ? "Light" : "Dark";
    $("theme").setAttribute("aria-label", `${isDark() ? "light" : "dark"} theme`);
    drawAll();
  };
  $("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    show();
  });
  prefersDark.addEventListener("change", show);
  show();
}

makeTexts();
makeTables();
makeDrawings();
makeFilters();
makeFigures();
makeComparison();
makeHyperparameters();
makeAgreement();
makeRepresentation();
makeFiles();
makeContents();
makeState();
makeTheme();
