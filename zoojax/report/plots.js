// Shared by all interactive figures, which Plotly draws.

const PURPLE = "#CC79A7";
// Luminance, of 255, below which a color is hard to see on a dark page, and above which on a
// light one.
const MIN_LUMINANCE = 100, MAX_LUMINANCE = 190;
const methodColors = new Map();

/** The color of a method. Those whose color was used before get another hue. */
function colorOf(key) {
  if (!methodColors.size) {
    page.methods.forEach(({ key: each, color }, i) => {
      const isUsed = [...methodColors.values()].includes(color);
      methodColors.set(each, isUsed ? `hsl(${Math.round(i * 137.5) % 360},60%,52%)` : color);
    });
  }
  return visible(methodColors.get(key));
}

const SYMBOLS = ["circle", "diamond", "square", "triangle-up", "x", "cross", "star"];
// "dash" is for lines of reference.
const DASHES = ["solid", "dashdot", "longdash", "longdashdot"];
// Between pruning ratios nothing is measured.
const UNMEASURED = "dot";
/** Format of values of a metric in hover texts of Plotly: of `%{y:...}`, with the unit. */
const hover = (axis, metric) =>
  (metric.percent ? `%{${axis}:.1%}` : `%{${axis}:.1f} ${metric.unit}`);
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

/** A color "#RRGGBB", mixed with white on a dark page, or with black on a light one, until it can
 * be seen; other colors are returned unchanged. */
function visible(color) {
  if (!color.startsWith("#")) return color;
  const rgb = [1, 3, 5].map((i) => parseInt(color.slice(i, i + 2), 16));
  const luminance = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2];
  let part = 0, end = 0;
  if (isDark() && luminance < MIN_LUMINANCE) {
    [part, end] = [(MIN_LUMINANCE + 40 - luminance) / (255 - luminance), 255];
  } else if (!isDark() && luminance > MAX_LUMINANCE) {
    part = 1 - MAX_LUMINANCE / luminance;
  }
  if (!part) return color;
  return `rgb(${rgb.map((each) => Math.round(each + part * (end - each))).join(",")})`;
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

// Read from elements in use, since custom properties hold unresolved light-dark(...).
const foreground = () => getComputedStyle(document.body).color;
const lineColor = () => getComputedStyle($("top")).borderBottomColor;
const muted = () => getComputedStyle($("source")).color;
const surface = () => getComputedStyle($("theme")).backgroundColor;

/** Draws traces; `x` and `y` are settings of the axes, `more` of the layout. */
function plot(id, traces, x, y, uirevision, more = {}) {
  const { color: text, fontFamily: family } = getComputedStyle(document.body);
  const line = lineColor();
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
    hoverlabel: { bgcolor: surface(), bordercolor: line, font: { color: text }, align: "left" },
    modebar: { bgcolor: transparent, color: muted(), activecolor: text },
    ...more,
  };
  // All traces of one type, since WebGL traces are drawn over all SVG traces.
  const total = traces.reduce((sum, trace) => sum + trace.x.length, 0);
  const type = webgl && total > MAX_SVG_POINTS ? "scattergl" : "scatter";
  for (const trace of traces) trace.type = type;
  Plotly.react(id, traces, layout, {
    responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d"],
    // Removes the button that would send the data to a server.
    showSendToCloud: false, plotlyServerURL: "",
  });
}

const share = { tickformat: ".1~%" };
/** Settings of an axis of a metric. */
const axisOf = (metric, title = metric.label) => (metric.percent ? { title, ...share }
  : { title: `${title} (${metric.unit})` });

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

/** The members shown of a population, by color: [{label, color, list}]. */
function colored(population) {
  const list = shown(population), groups = colorGroups();
  if (!groups) return [{ label: null, color: colorOf(population.method), list }];
  return groups.map(({ label, color, rows }) => ({
    label, color: visible(color), list: list.filter((m) => rows.has(population.parent[m])),
  })).filter((group) => group.list.length);
}

/** Controls that choose a population: a method, and its pruning ratio if it has several.
 *
 * @param {string} id The first part of the ids of the controls.
 * @param {object[]} methods The methods to choose from.
 * @param {Function} changed Called after another population was chosen.
 * @returns {Function} Returns the chosen population.
 */
function populationControl(id, methods, changed) {
  const select = $(`${id}-method`), slider = $(`${id}-ratio`), label = $(`${id}-ratio-label`);
  select.append(...methods.map(({ key, short }) => option(key, short)));
  const chosen = () => {
    const all = populationsOf(select.value);
    return all[Math.min(Number(slider.value), all.length - 1)];
  };
  const show = () => {
    label.textContent = `pruning ratio ${ratioText(chosen().ratio)}${methodOf(select.value).of}`;
    changed();
  };
  const reset = () => {
    const all = populationsOf(select.value), { ratio } = methodOf(select.value);
    const start = Math.max(0, all.findIndex((each) => each.ratio === ratio));
    setSlider(slider, 0, all.length - 1, start);
    $(`${id}-ratio-field`).hidden = all.length < 2;
    show();
  };
  select.addEventListener("change", reset);
  slider.addEventListener("input", show);
  reset();
  return chosen;
}

/** Sets the range of a slider and the value at which it starts. */
function setSlider(slider, min, max, start) {
  Object.assign(slider, { min, max, value: start });
  slider.dataset.start = start;
}

/** Position among the epochs of a population at which the figures show it. */
function startEpoch(population) {
  const { epoch } = methodOf(population.method);
  return epoch === null ? population.epochs.length - 1 : indexOfEpoch(population, epoch);
}
