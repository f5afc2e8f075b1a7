// The four interactive figures, drawn with Plotly.

// Okabe and Ito's color-blind-safe palette, for what is not colored by method.
const PURPLE = "#CC79A7";
const LAYER_COLORS = ["#0072B2", "#D55E00", "#009E73", PURPLE, "#E69F00", "#8a8f98"];
// Luminance, of 255, below which a color is hard to see on a dark page.
const MIN_LUMINANCE = 100;
const colorOf = (method) => visible(methodOf(method).color);
const SYMBOLS = ["circle", "diamond", "square", "triangle-up", "x", "cross", "star"];
const LABELS = {
  test_acc: "test accuracy", ggap: "gap", sparsity: "sparsity", train_acc: "train accuracy",
};
// Figures with more points are drawn with WebGL, if there is a GPU.
const MAX_SVG_POINTS = 3000;
const webgl = hasGpu();

/** Whether WebGL runs on a GPU: in software it is slower than SVG and logs warnings. */
function hasGpu() {
  const gl = document.createElement("canvas").getContext("webgl");
  if (!gl) return false;
  let renderer = gl.getParameter(gl.RENDERER);
  // Some browsers name the GPU only through this extension; others warn about its use.
  const extension = /WebKit/.test(renderer) && gl.getExtension("WEBGL_debug_renderer_info");
  if (extension) renderer = gl.getParameter(extension.UNMASKED_RENDERER_WEBGL);
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  return !/swiftshader|llvmpipe|software|basic render/i.test(renderer);
}

/** A color "#RRGGBB"; on a dark page mixed with white until it is bright enough. */
function visible(color) {
  const rgb = [1, 3, 5].map((i) => parseInt(color.slice(i, i + 2), 16));
  const luminance = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2];
  if (!isDark() || luminance >= MIN_LUMINANCE) return color;
  const white = (MIN_LUMINANCE + 40 - luminance) / (255 - luminance);
  return `rgb(${rgb.map((part) => Math.round(part + white * (255 - part))).join(",")})`;
}

const pending = new Set();

/** Schedules a drawing function for the next frame; repeated calls draw once. */
function scheduleDraw(draw) {
  if (!pending.size) requestAnimationFrame(() => {
    const now = [...pending];
    pending.clear();
    now.forEach((each) => each());
  });
  pending.add(draw);
}

function plot(id, traces, x, y, uirevision) {
  // Read from elements in use, since custom properties hold unresolved light-dark(...).
  const { color: text, fontFamily: family } = getComputedStyle(document.body);
  const line = getComputedStyle($("top")).borderBottomColor;
  const muted = getComputedStyle($("source")).color;
  const surface = getComputedStyle($("theme")).backgroundColor;
  const transparent = "rgba(0,0,0,0)";
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true };
  const narrow = $(id).clientWidth < 600;
  const layout = {
    autosize: true, uirevision, hovermode: "closest",
    paper_bgcolor: transparent, plot_bgcolor: transparent,
    font: { color: text, size: narrow ? 12 : 14, family },
    margin: { l: 50, r: 12, t: 32, b: 40 },
    xaxis: { ...axis, ...x, title: { text: x.title, standoff: 8 } },
    yaxis: { ...axis, ...y, title: { text: y.title, standoff: 8 } },
    legend: { orientation: "h", x: 0, xanchor: "left", y: -0.2, yanchor: "top" },
    hoverlabel: { bgcolor: surface, bordercolor: line, font: { color: text }, align: "left" },
    modebar: { bgcolor: transparent, color: muted, activecolor: text },
  };
  // All traces of one type, since WebGL traces are drawn over all SVG traces.
  const count = traces.reduce((sum, trace) => sum + trace.x.length, 0);
  const type = webgl && count > MAX_SVG_POINTS ? "scattergl" : "scatter";
  for (const trace of traces) trace.type = type;
  Plotly.react(id, traces, layout, {
    responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d"],
    // Removes the button that would send the data to a server.
    showSendToCloud: false, plotlyServerURL: "",
  });
}

const share = { tickformat: ".1~%" };
const foreground = () => getComputedStyle(document.body).color;

/** A trace of dots for members of some populations; x and y are functions of (population,
 * member). */
function dots(name, chosen, x, y, template, marker) {
  const pairs = chosen.flatMap(([population, list]) => list.map((member) => [population, member]));
  return {
    name, mode: "markers", marker,
    x: pairs.map((pair) => x(...pair)), y: pairs.map((pair) => y(...pair)),
    text: pairs.map((pair) => describe(...pair)),
    hovertemplate: `%{text}<br>${template}<extra></extra>`,
  };
}

const ring = () => ({
  size: 15, symbol: "circle-open", color: foreground(), line: { width: 3, color: foreground() },
});

/** (a) Accuracy over sparsity at an epoch. */
function drawSparsity() {
  if (!twins.length) return;
  const epoch = Number($("a-epoch").value);
  const x = (p, m) => at(p, "sparsity", m, indexOfEpoch(p, epoch));
  const y = (p, m) => at(p, "test_acc", m, indexOfEpoch(p, epoch));
  const template = "accuracy %{y:.1%}<br>sparsity %{x:.1%}";
  const traces = [], labels = [], means = [];
  for (const [i, { key, short: label, sweep }] of twinMethods.entries()) {
    const own = twins.filter((each) => each.method === key);
    if (!own.length) continue;
    const color = colorOf(key), symbol = SYMBOLS[i % SYMBOLS.length];
    labels.push(`${label} epoch ${own[0].epochs[indexOfEpoch(own[0], epoch)]}`);
    const marker = { size: 6, opacity: 0.55, color, symbol };
    traces.push(dots(label, own.map((p) => [p, shown(p)]), x, y, template, marker));
    // Pruning ratios at this epoch; or epochs up to this one.
    const steps = sweep === "ratio"
      ? own.map((p) => [p, indexOfEpoch(p, epoch)])
      : own[0].epochs.slice(0, indexOfEpoch(own[0], epoch) + 1).map((_, at) => [own[0], at]);
    const line = (metric) =>
      steps.map(([p, step]) => mean(shown(p).map((member) => at(p, metric, member, step))));
    means.push({
      name: `${label} mean${sweep === "epoch" ? ", up to this epoch" : ""}`, mode: "lines+markers",
      x: line("sparsity"), y: line("test_acc"),
      marker: { size: 7, symbol }, line: { color, width: 3 },
      hovertemplate: `${label} mean<br>${template}<extra></extra>`,
    });
  }
  const start = indexOfEpoch(dense, twins[0].start);
  const level = mean(shown(dense).map((member) => at(dense, "test_acc", member, start)));
  means.push({
    name: "dense mean", mode: "lines", x: [0, 1], y: [level, level],
    line: { color: colorOf(dense.method), width: 2.5, dash: "dash" },
    hovertemplate: "dense mean %{y:.1%}<extra></extra>",
  });
  traces.push(...means);
  const marked = twins.map((p) => [p, highlighted(p)]);
  if (marked.some(([, list]) => list.length)) {
    traces.push(dots("highlighted", marked, x, y, template, ring()));
  }
  $("a-label").textContent = labels.join(" · ");
  plot("a", traces, { title: "sparsity", ...share, range: [-0.03, 1.03] },
    { title: "test accuracy", ...share, range: bounds() }, "a");
}

let range = null;

/** Range of accuracy over all twins and epochs, so that the axis stays when the slider
 * moves. */
function bounds() {
  if (range) return range;
  let low = Infinity, high = -Infinity;
  for (const population of twins) {
    for (const value of metricValues(population, "test_acc")) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  const margin = 0.05 * (high - low);
  range = low < high ? [low - margin, high + margin] : [0, 1];
  return range;
}

/** (b) A metric over epochs: all members in one trace, with gaps between them. */
function drawTrajectories() {
  const population = populations[Number($("b-population").value)];
  const metric = $("b-metric").value, { epochs } = population, color = colorOf(population.method);
  const list = shown(population);
  const lines = (chosen, name, line) => {
    const trace = { name, mode: "lines", line, x: [], y: [], text: [] };
    for (const member of chosen) {
      const text = describe(population, member);
      epochs.forEach((epoch, i) => {
        trace.x.push(epoch);
        trace.y.push(at(population, metric, member, i));
        trace.text.push(text);
      });
      trace.x.push(null);
      trace.y.push(null);
      trace.text.push("");
    }
    // A single epoch makes no line.
    if (epochs.length === 1) trace.mode = "markers";
    trace.hovertemplate = `%{text}<br>epoch %{x}, ${LABELS[metric]} %{y:.1%}<extra></extra>`;
    return trace;
  };
  const thin = lines(list, "members", { width: 1, color });
  thin.opacity = 0.35;
  const traces = [thin, {
    name: "mean", mode: epochs.length === 1 ? "markers" : "lines", x: epochs,
    y: epochs.map((_, i) => mean(list.map((member) => at(population, metric, member, i)))),
    line: { width: 4, color: foreground() }, marker: { size: 10, color: foreground() },
    hovertemplate: `mean<br>epoch %{x}, ${LABELS[metric]} %{y:.1%}<extra></extra>`,
  }];
  const marked = highlighted(population);
  if (marked.length) traces.push(lines(marked, "highlighted", { width: 4, color: PURPLE }));
  plot("b", traces, { title: "epoch" }, { title: LABELS[metric], ...share },
    `b ${population.label} ${metric}`);
}

/** (c) Accuracy of twins over accuracy of their parents. */
function drawBeforeAfter() {
  if (!twins.length) return;
  const population = twins[Number($("c-population").value)];
  const start = indexOfEpoch(dense, population.start), epoch = Number($("c-epoch").value);
  const x = (p, member) => at(dense, "test_acc", p.parent[member], start);
  const y = (p, member) => at(p, "test_acc", member, epoch);
  const marker = { size: 7, opacity: 0.6, color: colorOf(population.method) };
  const template = "before %{x:.1%}, after %{y:.1%}<br>sparsity %{customdata:.1%}";
  const chosen = (list) => [[population, list]], list = shown(population);
  const cloud = (name, which, look) => ({
    ...dots(name, chosen(which), x, y, template, look),
    customdata: which.map((member) => at(population, "sparsity", member, epoch)),
  });
  const traces = [cloud(population.label, list, marker)];
  const known = traces[0].x.filter(Number.isFinite);
  if (known.length) {
    const ends = [Math.min(...known), Math.max(...known)];
    traces.push({
      name: "no change", mode: "lines", x: ends, y: ends, hoverinfo: "skip",
      line: { color: foreground(), dash: "dash", width: 1.5 },
    });
  }
  const marked = highlighted(population);
  if (marked.length) traces.push(cloud("highlighted", marked, ring()));
  $("c-label").textContent = `epoch ${population.epochs[epoch]}`;
  const cell = population.correlation[epoch];
  const digits = (name) => cell[name]?.toFixed(2) ?? "–";
  const text = (name) => `${digits(name)} [${digits(`${name}_low`)}, ${digits(`${name}_high`)}]`;
  const title = `${population.label}, epoch ${population.epochs[epoch]}: `;
  $("c-title").textContent = title + (cell
    ? `Pearson's r ${text("pearson")}, Kendall's tau ${text("kendall")} over all members ` +
      "(95% intervals)."
    : "no correlation: too few members are finite, or all are equally accurate.");
  plot("c", traces, { title: "dense test accuracy", ...share },
    { title: "test accuracy of the twin", ...share }, `c ${population.label}`);
}

/** (d) Sparsity of layers: over pruning ratios at the last epoch, or over epochs. */
function drawLayers() {
  const table = tableNamed("layer_sparsity");
  if (!table) return;
  const column = (name) => table.columns.find((each) => each.name === name);
  const [method, layer, epoch] = ["method", "layer", "epoch"].map((name) => column(name).values);
  const colors = LAYER_COLORS.map(visible), { values, spread } = column("sparsity");
  const chosen = methodOf($("d-population").value), byRatio = chosen.sweep === "ratio";
  const over = byRatio ? column("ratio").values : epoch;
  let rows = [...method.keys()].filter((row) => method[row] === chosen.short);
  if (byRatio) {
    const last = Math.max(...rows.map((row) => epoch[row]));
    rows = rows.filter((row) => epoch[row] === last);
  }
  const traces = [...new Set(layer)].map((name, i) => {
    const own = rows.filter((row) => layer[row] === name);
    return {
      name: escaped(name), mode: "lines+markers", x: own.map((row) => over[row]),
      y: own.map((row) => values[row]),
      error_y: { array: own.map((row) => spread[row]), thickness: 1, width: 0 },
      marker: { size: 7, symbol: SYMBOLS[i % SYMBOLS.length] },
      line: { color: colors[i % colors.length], width: 2 },
      hovertemplate: `${escaped(name)} %{y:.1%}<extra></extra>`,
    };
  });
  const x = byRatio ? { title: "pruning ratio", ...share } : { title: "epoch" };
  plot("d", traces, x, { title: "sparsity", ...share, rangemode: "tozero" }, `d ${chosen.key}`);
}

function drawMembers() {
  countMembers();
  [drawSparsity, drawTrajectories, drawBeforeAfter].forEach(scheduleDraw);
}

function drawAll() {
  drawMembers();
  [drawLayers, drawMap, drawReconstruction].forEach(scheduleDraw);
}

function makeFigures() {
  const choose = (id, list) =>
    $(id).append(...list.map((population, i) => option(i, population.label)));
  choose("b-population", populations);
  for (const id of ["b-population", "b-metric"]) {
    $(id).addEventListener("change", () => scheduleDraw(drawTrajectories));
  }
  $("a-section").hidden = $("c-section").hidden = !twins.length;
  $("d-section").hidden = !tableNamed("layer_sparsity");
  if (!twins.length) return;
  choose("c-population", twins);
  const epochs = twins.map((population) => population.epochs.at(-1));
  Object.assign($("a-epoch"), { min: 0, max: Math.max(...epochs), value: Math.min(...epochs) });
  $("a-epoch").addEventListener("input", () => scheduleDraw(drawSparsity));
  const resetSlider = () => {
    const max = twins[Number($("c-population").value)].epochs.length - 1;
    Object.assign($("c-epoch"), { min: 0, max, value: max });
    scheduleDraw(drawBeforeAfter);
  };
  $("c-population").addEventListener("change", resetSlider);
  $("c-epoch").addEventListener("input", () => scheduleDraw(drawBeforeAfter));
  resetSlider();
  // Those with a course over epochs first.
  const ordered = ["epoch", "ratio"].flatMap((sweep) =>
    twinMethods.filter((method) => method.sweep === sweep));
  $("d-population").append(...ordered.map(({ key, short, sweep }) =>
    option(key, `${short}, by ${sweep === "ratio" ? "ratio, last epoch" : "epoch"}`)));
  $("d-population").addEventListener("change", () => scheduleDraw(drawLayers));
}
