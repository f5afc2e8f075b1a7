// Agreement of all pairs of members: a heat map of the members shown, and means of all matrices.

/** The color of a fraction of the scale, as [red, green, blue]. */
function scaleColor(fraction) {
  const place = Math.min(Math.max(fraction, 0), 1) * (ORDERED.length - 1);
  const i = Math.min(Math.floor(place), ORDERED.length - 2);
  const [low, high] = [ORDERED[i], ORDERED[i + 1]].map((color) =>
    [1, 3, 5].map((c) => parseInt(color.slice(c, c + 2), 16)));
  return low.map((part, c) => Math.round(part + (place - i) * (high[c] - part)));
}

/** Rows of `members` that are shown and in a matrix, the most accurate dense members first. */
function ordered(size) {
  const accuracy = valuesOf(ACCURACY);
  return members.id.map((_, row) => row).filter((row) => row < size && passes(row))
    .sort((a, b) => (accuracy[b] ?? -1) - (accuracy[a] ?? -1));
}

const matrixName = ({ rows, columns }) => `${rows} with ${columns}`;
const within = (matrix) => matrix.rows === matrix.columns;

function matrixValues(matrix) {
  matrix.decoded ??= decode(matrix.values, 0, 1, 1);
  return matrix.decoded;
}

/** (m) The heat map of the chosen matrix. */
function drawAgreement() {
  const matrix = page.matrices[Number($("m-matrix").value)];
  if (!matrix?.values) return;
  const values = matrixValues(matrix), [height, width] = matrix.shape;
  const down = ordered(height), across = ordered(width), known = [];
  const cells = down.map((row) => across.map((column) => values[row * width + column]));
  cells.forEach((line, i) => line.forEach((value, j) => {
    if (Number.isFinite(value) && !(within(matrix) && i <= j)) known.push(value);
  }));
  const found = summarize(known);
  const [low, high] = extremes(known);
  const canvas = $("m"), context = canvas.getContext("2d");
  canvas.hidden = !found.n;
  Object.assign(canvas, { width: Math.max(across.length, 1), height: Math.max(down.length, 1) });
  const image = context.createImageData(canvas.width, canvas.height);
  cells.flat().forEach((value, i) => {
    const color = Number.isFinite(value)
      ? scaleColor(high > low ? (value - low) / (high - low) : 1) : [128, 128, 128];
    image.data.set([...color, Number.isFinite(value) ? 255 : 90], 4 * i);
  });
  context.putImageData(image, 0, 0);
  $("m-scale").hidden = !found.n;
  $("m-low").textContent = percent(low);
  $("m-high").textContent = percent(high);
  $("m-bar").style.background = `linear-gradient(to right, ${ORDERED.join(",")})`;
  const pairs = count(found.n, "pair"), size = count(down.length, "member");
  const spread = Number.isFinite(found.std) ? ` (std ${(100 * found.std).toFixed(1)})` : "";
  const text = found.n
    ? `${matrixName(matrix)}, ${size} shown: ${percent(found.mean)}${spread} over ${pairs}`
      + `${within(matrix) ? " of different members" : ""}. `
      + "Most accurate dense members first; twins in the order of their parents."
    : `${matrixName(matrix)}: ${FEW}.`;
  $("m-title").textContent = text;
  canvas.setAttribute("aria-label", text);
  canvas.onpointermove = (event) => {
    const box = canvas.getBoundingClientRect();
    const j = Math.floor(((event.clientX - box.left) / box.width) * across.length);
    const i = Math.floor(((event.clientY - box.top) / box.height) * down.length);
    const value = cells[i]?.[j];
    if (value === undefined) return;
    $("m-pair").textContent = `${matrix.rows} ${members.id[down[i]]}, ${matrix.columns} `
      + `${members.id[across[j]]}: ${percent(value)}`;
  };
}

/** The lowest and the highest value; `Math.min(...values)` fails for very many. */
const extremes = (values) => values.reduce(
  ([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);

function makeAgreement() {
  const { matrices } = page;
  $("m-section").hidden = !matrices.length;
  if (!matrices.length) return;
  $("m-matrix").append(...matrices.map((matrix, i) => option(i, matrixName(matrix))));
  $("m-matrix").addEventListener("change", () => scheduleDraw(drawAgreement));
  const isDrawn = matrices[0].values !== null;
  $("m-plot").hidden = $("m-title").hidden = $("m-matrix").parentElement.hidden = !isDrawn;
  const column = (name, label, kind, values, more = {}) => ({ name, label, kind, values, ...more });
  const each = (name) => matrices.map((matrix) => matrix[name]);
  $("m-table").append(makeTable({
    rows: matrices.length,
    columns: [
      column("rows", "population", "text", each("rows")),
      column("columns", "with", "text", each("columns")),
      column("pairs", "pairs", "whole", each("pairs")),
      column("mean", "agreement of all members", "share", each("mean"), { spread: each("std") }),
    ],
  }));
}
