// Sortable tables.

const points = (value) => `${value < 0 ? "−" : "+"}${Math.abs(100 * value).toFixed(1)}`;
const FORMATS = {
  text: String, whole: String, plain: String,
  share: (value) => `${(100 * value).toFixed(1)}%`,
  ratio: (value) => `${+(100 * value).toFixed(1)}%`,
  points: (value) => `${points(value)} pp`,
  coefficient: (value) => value.toFixed(3),
  "coefficient change": (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`,
};
// Within parentheses and brackets, without the unit.
const ENDS = {
  share: (value) => (100 * value).toFixed(1), points, coefficient: FORMATS.coefficient,
};

/** Formats a cell: mean (std), value [low, high], or the value; null is its reason, or a dash. */
function cell(column, row) {
  const value = column.values[row];
  if (value === null) return column.reasons?.[row] ?? "–";
  const kind = column.kinds?.[row] ?? column.kind;
  let text = FORMATS[kind](value);
  const end = (values) => (values[row] === null ? "–" : ENDS[kind](values[row]));
  if (column.spread && column.spread[row] !== null) text += ` (${end(column.spread)})`;
  if (column.low) text += ` [${end(column.low)}, ${end(column.high)}]`;
  return text;
}

/** Row indices of a table, sorted by a column; nulls are last in either direction. */
function sorted(table, column, ascending) {
  const { values, kind } = column, sign = ascending ? 1 : -1;
  const compare = kind === "text"
    ? (a, b) => a.localeCompare(b, "en", { numeric: true }) : (a, b) => a - b;
  return [...Array(table.rows).keys()].sort((one, two) => {
    const a = values[one], b = values[two];
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * compare(a, b);
  });
}

function makeTable(table) {
  const body = make("tbody"), head = make("tr");
  const align = (column) => (column.kind === "text" ? "text" : "");
  const fill = (order) => body.replaceChildren(...order.map((row) => {
    const line = make("tr");
    line.append(...table.columns.map((column) => {
      const shaded = table.shaded?.column === column.name && table.shaded.rows[row];
      return make("td", cell(column, row),
        { className: [align(column), shaded ? "shaded" : ""].join(" ").trim() });
    }));
    return line;
  }));
  for (const column of table.columns) {
    const label = column.label + (column.spread ? " (std)" : "") + (column.low ? " [95%]" : "");
    const header = make("th", "", { className: align(column), scope: "col" });
    const button = make("button", label, { type: "button" });
    button.addEventListener("click", () => {
      const ascending = header.getAttribute("aria-sort") !== "ascending";
      for (const each of head.children) each.removeAttribute("aria-sort");
      header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      fill(sorted(table, column, ascending));
    });
    header.append(button);
    head.append(header);
  }
  fill([...Array(table.rows).keys()]);
  const element = make("table"), top = make("thead");
  top.append(head);
  element.append(top, body);
  return element;
}

/** Tables are collapsible; their rows are created when first opened. */
function makeTables() {
  for (const table of page.tables) {
    const details = make("details", "", { id: `table-${table.name}` });
    const summary = make("summary");
    summary.append(make("h3", table.title));
    const box = make("div", "", { className: "scroll", tabIndex: 0 });
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", table.title);
    details.append(summary, make("p", table.about, { className: "about" }),
      fileLinks(page.files[table.name] ?? []), box);
    details.addEventListener("toggle", () => {
      if (details.open && !box.firstChild) box.append(makeTable(table));
    });
    $("tables-list").append(details);
    details.open = table === page.tables[0];
  }
  $("tables-section").hidden = !page.tables.length;
}
