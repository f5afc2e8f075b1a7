// The interactive figures of members: accuracy over sparsity, trajectories, before and after
// sparsification, and the sparsity of layers.

const FEW = "too few members";
// Members of more methods than this are drawn faintly, so that the means can be seen.
const CROWDED = 6;
let chosenTrajectory, chosenTwin;

/** (a) Accuracy over sparsity; twins with pruning ratios at one epoch, others up to one. */
function drawSparsity() {
  if (!twinMethods.length) return;
  const epoch = (p) => indexOfEpoch(p, Number($(`a-${methodOf(p.method).sweep}`).value));
  const x = (p, m) => at(p, "sparsity", m, epoch(p)), y = (p, m) => at(p, SCORE, m, epoch(p));
  const template = `${page.score.short} ${hover("y", page.score)}<br>sparsity %{x:.1%}`;
  const groups = colorGroups(), lines = [], clouds = [], inGroups = new Map();
  const crowded = shownMethods().length > CROWDED;
  for (const { key, short, sweep } of shownMethods()) {
    const i = twinMethods.findIndex((method) => method.key === key);
    const own = populationsOf(key), symbol = SYMBOLS[i % SYMBOLS.length];
    // A sweep by ratio has a point per ratio, one by epoch a point per epoch so far.
    const steps = sweep === "ratio" ? own.map((p) => [p, epoch(p)])
      : own.flatMap((p) => measuredSteps(p).filter((step) => step <= epoch(p))
        .map((step) => [p, step]));
    const values = (metric) =>
      steps.map(([p, step]) => mean(shown(p).map((member) => at(p, metric, member, step))));
    const color = groups ? foreground() : colorOf(key);
    const byRatio = sweep === "ratio" || methodOf(key).measured !== null;
    lines.push({
      name: `${short} mean`, legendgroup: key, showlegend: groups !== null || crowded,
      // Bars at the ratios: a dot would look like a member, a solid line like measurements.
      mode: byRatio || steps.length === 1 ? "lines+markers" : "lines",
      x: values("sparsity"), y: values(SCORE),
      marker: { size: 18, symbol: "line-ew-open", color, line: { width: 3, color } },
      line: byRatio ? { color, width: 2, dash: UNMEASURED }
        : { color, width: 3, dash: groups ? DASHES[i % DASHES.length] : "solid" },
      hovertemplate: `${short} mean<br>${template}<extra></extra>`,
    });
    const chosen = own.map((p) => [p, colored(p)]);
    if (!groups) {
      const marker = { size: crowded ? 5 : 7, opacity: crowded ? 0.15 : 0.6, color, symbol };
      const cloud = dots(short, own.map((p) => [p, shown(p)]), x, y, template, marker);
      clouds.push({ ...cloud, legendgroup: key, showlegend: !crowded });
      continue;
    }
    for (const [p, parts] of chosen) {
      for (const part of parts) {
        const marker = { size: 7, opacity: 0.7, color: part.color, symbol };
        const cloud = dots(escaped(part.label), [[p, part.list]], x, y, template, marker);
        const known = inGroups.get(part.label);
        if (known) ["x", "y", "text"].forEach((name) => known[name].push(...cloud[name]));
        else inGroups.set(part.label, cloud);
        const target = inGroups.get(part.label).marker;
        if (!Array.isArray(target.symbol)) target.symbol = [];
        target.symbol.push(...part.list.map(() => symbol));
      }
    }
  }
  for (const { label } of groups ?? []) {
    if (inGroups.has(label)) clouds.push(inGroups.get(label));
  }
  const start = indexOfEpoch(dense, populationsOf(twinMethods[0].key)[0].start ?? Infinity);
  const level = mean(shown(dense).map((member) => at(dense, SCORE, member, start)));
  lines.push({
    name: "dense mean", mode: "lines", x: [0, 1], y: [level, level],
    line: { color: groups ? foreground() : colorOf(dense.method), width: 2, dash: "dash" },
    hovertemplate: `dense mean ${hover("y", page.score)}<extra></extra>`,
  });
  const marked = shownMethods().flatMap(({ key }) => populationsOf(key))
    .map((p) => [p, highlighted(p)]);
  if (marked.some(([, list]) => list.length)) {
    clouds.push(dots("highlighted", marked, x, y, template, ring()));
  }
  plot("a", [...lines, ...clouds], { title: "sparsity", ...share, range: [-0.03, 1.03] },
    { ...axisOf(page.score), range: bounds() }, "a");
}

/** Sets up the sliders of (a): one for each way in which sparsity varies. */
function makeSparsity() {
  for (const sweep of ["ratio", "epoch"]) {
    const own = twinMethods.filter((method) => method.sweep === sweep);
    const slider = $(`a-${sweep}`);
    $(`a-${sweep}-field`).hidden = !own.length;
    if (!own.length) continue;
    const last = Math.max(...own.map(({ key }) => populationsOf(key)[0].epochs.at(-1)));
    const names = own.length > 3 ? count(own.length, "twin")
      : own.map(({ short }) => short).join(", ");
    const what = sweep === "ratio" ? "pruned by ratio" : "sparser by epoch";
    const label = () => {
      $(`a-${sweep}-label`).textContent = `${names} (${what}): epoch ${slider.value} of ${last}`;
      scheduleDraw(drawSparsity);
    };
    setSlider(slider, 0, last, last);
    slider.addEventListener("input", label);
    label();
  }
}

let range = null;

/** Range of accuracy over all twins and epochs, so that the axis stays when a slider moves. */
function bounds() {
  if (range) return range;
  let low = Infinity, high = -Infinity;
  for (const population of populations) {
    if (population === dense) continue;
    for (const value of metricValues(population, SCORE)) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  const margin = 0.05 * (high - low);
  range = low < high ? [low - margin, high + margin] : [0, 1];
  return range;
}

/** (b) A metric over epochs: the members of one color in one trace, with gaps between them. */
function drawTrajectories() {
  const population = chosenTrajectory(), metric = $("b-metric").value, { epochs } = population;
  const measured = metricOf(metric), { label: text } = measured, value = hover("y", measured);
  const single = epochs.length === 1; // A single epoch makes no line.
  const lines = (chosen, name, line) => {
    const trace = { name, mode: single ? "markers" : "lines", line, x: [], y: [], text: [] };
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
    trace.marker = { color: line.color, size: 7 };
    trace.hovertemplate = `%{text}<br>epoch %{x}, ${text} ${value}<extra></extra>`;
    return trace;
  };
  const thin = [], thick = [];
  for (const { label, color, list } of colored(population)) {
    const name = label === null ? "mean" : `${escaped(label)}, mean`;
    thin.push({
      ...lines(list, label === null ? "members" : escaped(label), { width: 1, color }),
      opacity: 0.35, showlegend: label === null,
    });
    const stroke = label === null ? foreground() : color;
    thick.push({
      name: `${name} of ${list.length}`, mode: single ? "markers" : "lines", x: epochs,
      y: epochs.map((_, i) => mean(list.map((member) => at(population, metric, member, i)))),
      line: { width: 4, color: stroke }, marker: { size: 10, color: stroke },
      hovertemplate: `${name}<br>epoch %{x}, ${text} ${value}<extra></extra>`,
    });
  }
  const traces = [...thin, ...thick], marked = highlighted(population);
  if (marked.length) traces.push(lines(marked, "highlighted", { width: 4, color: PURPLE }));
  $("b-title").textContent = `${population.label}: ${count(shown(population).length, "member")}. `
    + "Thin lines: members. Thick lines: their mean.";
  plot("b", traces, { title: "epoch" }, axisOf(measured),
    `b ${population.label} ${metric}`);
}

/** (c) Accuracy of twins over accuracy of their parents. */
function drawBeforeAfter() {
  if (!twinMethods.length) return;
  const population = chosenTwin(), epoch = Number($("c-epoch").value);
  const start = indexOfEpoch(dense, population.start ?? Infinity);
  const x = (p, member) => at(dense, SCORE, p.parent[member], start);
  const y = (p, member) => at(p, SCORE, member, epoch);
  const [before, after] = ["x", "y"].map((axis) => hover(axis, page.score));
  const template = `before ${before}, after ${after}<br>sparsity %{customdata:.1%}`;
  const cloud = (name, list, look) => ({
    ...dots(name, [[population, list]], x, y, template, look),
    customdata: list.map((member) => at(population, "sparsity", member, epoch)),
  });
  const clouds = colored(population).map(({ label, color, list }) =>
    cloud(label === null ? population.label : escaped(label), list,
      { size: 8, opacity: 0.7, color }));
  const known = clouds.flatMap((trace) => trace.x).filter(Number.isFinite), traces = [];
  if (known.length) {
    const ends = [Math.min(...known), Math.max(...known)];
    traces.push({
      name: "no change", mode: "lines", x: ends, y: ends, hoverinfo: "skip",
      line: { color: foreground(), dash: "dash", width: 1.5 },
    });
  }
  traces.push(...clouds);
  const marked = highlighted(population);
  if (marked.length) traces.push(cloud("highlighted", marked, ring()));
  $("c-epoch-label").textContent =
    `epoch ${population.epochs[epoch]} of ${population.epochs.at(-1)}`;
  $("c-title").textContent = `${population.label}, epoch ${population.epochs[epoch]}: `
    + correlationText(population, epoch);
  plot("c", traces, axisOf(page.score, `dense ${page.score.label}`),
    axisOf(page.score, `${page.score.label} of the twin`), `c ${population.label}`);
}

/** Correlation of the members shown; with its intervals if all are shown. */
function correlationText(population, epoch) {
  const found = correlation(population, epoch), cell = population.correlation[epoch];
  const n = count(found.n, "finite member");
  if (found.n < page.minCorrelated) {
    return `no correlation: ${FEW} (${found.n}, not at least ${page.minCorrelated}).`;
  }
  if (!Number.isFinite(found.pearson)) return `no correlation: all ${n} are equally accurate.`;
  const end = (name) => cell[name]?.toFixed(2) ?? "–";
  const interval = (name) =>
    (isFiltered() || !cell ? "" : ` [${end(`${name}_low`)}, ${end(`${name}_high`)}]`);
  const text = ["pearson", "kendall"].map((name, i) =>
    `${["Pearson's r", "Kendall's tau"][i]} ${found[name].toFixed(2)}${interval(name)}`).join(", ");
  const intervals = isFiltered() || !cell ? "" : " (95% intervals)";
  return `${text} over ${n}${intervals}.`;
}

function makeBeforeAfter() {
  const reset = () => {
    const population = chosenTwin?.() ?? populationsOf(twinMethods[0].key)[0];
    setSlider($("c-epoch"), 0, population.epochs.length - 1, startEpoch(population));
    scheduleDraw(drawBeforeAfter);
  };
  chosenTwin = populationControl("c", twinMethods, reset);
  reset();
  $("c-epoch").addEventListener("input", () => scheduleDraw(drawBeforeAfter));
}

/** (d) Sparsity of layers: over pruning ratios at the last epoch, or over epochs. */
function drawLayers() {
  const table = tableNamed("layer_sparsity");
  if (!table) return;
  const column = (name) => table.columns.find((each) => each.name === name);
  const [method, layer, epoch] = ["method", "layer", "epoch"].map((name) => column(name).values);
  const { values, spread } = column("sparsity");
  const chosen = methodOf($("d-method").value), byRatio = chosen.sweep === "ratio";
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
      line: {
        color: visible(PALETTE[i % PALETTE.length]), width: 2, dash: byRatio ? UNMEASURED : "solid",
      },
      hovertemplate: `${escaped(name)} %{y:.1%}<extra></extra>`,
    };
  });
  const size = populationsOf(chosen.key)[0].member.length;
  $("d-title").textContent = `${chosen.short}: ${count(size, "member")}`
    + `${byRatio ? " per ratio, last epoch" : ""}.`;
  const x = byRatio ? { title: `pruning ratio${chosen.of}`, ...share } : { title: "epoch" };
  plot("d", traces, x, { title: "sparsity", ...share, rangemode: "tozero" }, `d ${chosen.key}`);
}

function drawMembers() {
  countMembers();
  [drawCards, drawSparsity, drawRanking, drawDifferences, drawTrajectories, drawBeforeAfter,
    drawHyperparameters, drawAgreement].forEach(scheduleDraw);
}

function drawAll() {
  drawMembers();
  [drawLayers, drawMap, drawReconstruction].forEach(scheduleDraw);
}

function makeFigures() {
  $("accuracy-over-sparsity").textContent = `${capitalized(page.score.short)} over sparsity`;
  $("b-metric").append(...page.metrics.map(({ name, label }) => option(name, label)));
  chosenTrajectory =
    populationControl("b", page.methods, () => scheduleDraw(drawTrajectories));
  $("b-metric").addEventListener("change", () => scheduleDraw(drawTrajectories));
  $("a-section").hidden = $("c-section").hidden = !twinMethods.length;
  $("d-section").hidden = !tableNamed("layer_sparsity");
  if (!twinMethods.length) return;
  makeSparsity();
  makeBeforeAfter();
  // Those with a course over epochs first.
  const ordered = ["epoch", "ratio"].flatMap((sweep) =>
    twinMethods.filter((method) => method.sweep === sweep));
  $("d-method").append(...ordered.map(({ key, short, sweep }) =>
    option(key, `${short}, by ${sweep === "ratio" ? "ratio, last epoch" : "epoch"}`)));
  $("d-method").addEventListener("change", () => scheduleDraw(drawLayers));
}
