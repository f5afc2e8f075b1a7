// Parallel coordinates: one line per member through its hyperparameters and results.

const MAX_TICKS = 12;
const AXIS_WIDTH = 110; // Pixels between neighboring axes, at least.
// Lines that share a value are spread by this part of the axis, so that all can be seen.
const SPREAD = 0.03;
let chosenResult = null;

/** An axis: positions of the values in [0, 1], null where unknown, and [position, text] ticks. */
function makeAxis(title, values, format = String) {
  const known = values.filter((value) => value !== null);
  const distinct = [...new Set(known)];
  const isNumeric = distinct.every((value) => typeof value === "number");
  distinct.sort(isNumeric ? (a, b) => a - b : (a, b) => (a > b) - (a < b));
  if (distinct.length <= MAX_TICKS && format === String) {
    const place = new Map(distinct.map((value, i) =>
      [value, distinct.length > 1 ? i / (distinct.length - 1) : 0.5]));
    const spread = (row) => SPREAD * (((row * 7) % 11) / 5 - 1);
    return {
      title, ticks: distinct.map((value) => [place.get(value), String(value)]),
      positions: values.map((v, row) => (v === null ? null : place.get(v) + spread(row))),
    };
  }
  if (!isNumeric) {
    const place = new Map(distinct.map((value, i) => [value, i / (distinct.length - 1)]));
    return { title, ticks: [], positions: values.map((v) => place.get(v) ?? null) };
  }
  const low = distinct[0], high = distinct.at(-1);
  const scale = low > 0 && high / low > 100 ? Math.log : (value) => value;
  const place = (value) =>
    (high > low ? (scale(value) - scale(low)) / (scale(high) - scale(low)) : 0.5);
  const ends = high > low ? [low, high] : distinct;
  return {
    title, ticks: ends.map((value) => [place(value), format(value)]),
    positions: values.map((value) => (value === null ? null : place(value))),
  };
}

const asPercent = (value) => percent(value);
const asScore = (value) => scoreText(value);

/** The axes: hyperparameters that vary, accuracy of the dense zoo, and results of a twin. */
function axes() {
  const result = Object.entries(members.hyper).map(([name, values]) => {
    const isLong = new Set(values).size > MAX_TICKS;
    const isNumeric = typeof values.find((value) => value !== null) === "number";
    return makeAxis(nameOf(name), values, isLong && isNumeric ? shortNumber : String);
  });
  const population = chosenResult?.();
  const last = dense.epochs.length - 1;
  const start = population ? indexOfEpoch(dense, population.start ?? Infinity) : last;
  const byRow = (source, metric, epoch) => {
    const values = Array(members.id.length).fill(null);
    source.parent.forEach((row, member) => {
      const value = at(source, metric, member, epoch);
      if (row >= 0 && Number.isFinite(value)) values[row] = value;
    });
    return values;
  };
  result.push(makeAxis(`dense ${page.score.short}`, byRow(dense, SCORE, start), asScore));
  if (!population) return result;
  const epoch = Number($("p-epoch").value), { label } = population;
  if (methodOf(population.method).sweep === "epoch") {
    result.push(makeAxis(`${label} sparsity`, byRow(population, "sparsity", epoch), asPercent));
  }
  const title = `${label} ${page.score.short}`;
  result.push(makeAxis(title, byRow(population, SCORE, epoch), asScore));
  return result;
}

/** (p) Parallel coordinates of the members shown. */
function drawHyperparameters() {
  if ($("p-section").hidden) return;
  const all = axes(), population = chosenResult?.();
  if (population) {
    const epoch = population.epochs[Number($("p-epoch").value)];
    $("p-epoch-label").textContent = `epoch ${epoch} of ${population.epochs.at(-1)}`;
  }
  const line = (name, rows, look) => {
    const trace = { name, mode: "lines", x: [], y: [], text: [], line: look };
    for (const row of rows) {
      const text = describe(dense, dense.parent.indexOf(row));
      // A line ends where a value is unknown: the member diverged, or has no such twin.
      all.forEach(({ positions }, i) => {
        trace.x.push(i);
        trace.y.push(positions[row]);
        trace.text.push(text);
      });
      trace.x.push(null);
      trace.y.push(null);
      trace.text.push("");
    }
    trace.hovertemplate = "%{text}<extra></extra>";
    return trace;
  };
  const rows = members.id.map((_, row) => row).filter(passes);
  const opacity = Math.max(0.4, Math.min(0.9, 40 / rows.length));
  const groups = colorGroups() ?? groupsOf(ACCURACY);
  const traces = groups.map(({ label, color, rows: inside }) => ({
    ...line(escaped(label), rows.filter((row) => inside.has(row)),
      { width: 1.5, color: visible(color) }),
    opacity,
  })).filter((trace) => trace.x.length);
  const marked = highlighted(dense).map((member) => dense.parent[member]);
  if (marked.length) traces.push(line("highlighted", marked, { width: 4, color: PURPLE }));
  const what = $("color").value ? $("color").selectedOptions[0].text : `dense ${page.score.short}`;
  $("p-title").textContent = `One line per member, ${rows.length} shown, colored by ${what}. Lines `
    + "that share a value are spread a little. Use the filters above to select members.";
  const ticks = all.flatMap(({ ticks }, i) => ticks.map(([y, text]) => ({
    x: i, y, text: escaped(text), showarrow: false, xanchor: "left", xshift: 4, yanchor: "middle",
    bgcolor: getComputedStyle(document.body).backgroundColor, borderpad: 1,
    font: { size: 12 }, opacity: 0.85,
  })));
  const stems = all.map((_, i) => ({
    type: "line", x0: i, x1: i, y0: -0.06, y1: 1.06, layer: "below",
    line: { color: lineColor(), width: 2 },
  }));
  $("p").style.minWidth = `${all.length * AXIS_WIDTH}px`;
  plot("p", traces,
    {
      title: "", tickvals: all.map((_, i) => i), side: "top", showgrid: false, zeroline: false,
      ticktext: all.map(({ title }) => escaped(title).replaceAll(" ", "<br>")),
      range: [-0.15, all.length - 0.3], fixedrange: true,
    },
    { title: "", visible: false, range: [-0.08, 1.08], fixedrange: true }, "p",
    {
      annotations: ticks, shapes: stems,
      legend: { orientation: "h", x: 0, y: -0.02, yanchor: "top" },
    });
}

function makeHyperparameters() {
  $("p-section").hidden = !Object.keys(members.hyper).length;
  for (const id of ["p-ratio-field", "p-epoch-field"]) $(id).hidden = !twinMethods.length;
  $("p-method").parentElement.hidden = !twinMethods.length;
  if (!twinMethods.length) return;
  const reset = () => {
    const population = chosenResult?.() ?? populationsOf(twinMethods[0].key)[0];
    setSlider($("p-epoch"), 0, population.epochs.length - 1, startEpoch(population));
    scheduleDraw(drawHyperparameters);
  };
  chosenResult = populationControl("p", twinMethods, reset);
  reset();
  $("p-epoch").addEventListener("input", () => scheduleDraw(drawHyperparameters));
}
