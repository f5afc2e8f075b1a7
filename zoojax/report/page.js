"use strict";
// The report page: access to the data, and the filters that select members. Data is only set as
// text, never as markup.

const page = JSON.parse(document.getElementById("data").textContent);
const { members, populations } = page;

const $ = (id) => document.getElementById(id);
const option = (value, text) => Object.assign(new Option(text), { value });

/** Creates an element with text and properties. */
function make(tag, text = "", properties = {}) {
  return Object.assign(document.createElement(tag), { textContent: text }, properties);
}

/** "1 member", "2 members". */
const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
const percent = (value, digits = 1) =>
  Number.isFinite(value) ? `${(100 * value).toFixed(digits)}%` : "–";
/** A ratio or sparsity without needless digits, such as "87.5%". */
const ratioText = (value) => `${+(100 * value).toFixed(2)}%`;

// The metric by which members are compared: test accuracy, or PSNR in dB.
const SCORE = page.score.name;
const capitalized = (text) => text[0].toUpperCase() + text.slice(1);
const metricOf = (name) => page.metrics.find((metric) => metric.name === name);
/** Value of a metric with its unit. */
const metricText = (metric, value, digits = 1) => (metric.percent ? percent(value, digits)
  : Number.isFinite(value) ? `${value.toFixed(digits)} ${metric.unit}` : "–");
const scoreText = (value) => metricText(page.score, value);

// ---- Data -------------------------------------------------------------------------------

/** Decodes base64 of little-endian unsigned integers of `width` bytes: 0 is `low`, the largest
 * but one is `high`, the largest is non-finite. */
function decode(codes, low, high, width) {
  const bytes = atob(codes), last = 256 ** width - 1;
  const values = new Float32Array(bytes.length / width);
  for (let i = 0; i < values.length; i++) {
    let code = 0;
    for (let byte = width - 1; byte >= 0; byte--) {
      code = 256 * code + bytes.charCodeAt(width * i + byte);
    }
    values[i] = code === last ? NaN : low + ((high - low) * code) / (last - 1);
  }
  return values;
}

/** A metric, [members x epochs]; cached. */
function metricValues(population, metric) {
  const coded = population.values[metric];
  coded.decoded ??= decode(coded.codes, coded.low, coded.high, 2);
  return coded.decoded;
}

/** A metric of one member at a position of the population's epochs. */
const at = (population, metric, member, epoch) =>
  metricValues(population, metric)[member * population.epochs.length + epoch];

/** Index of the last epoch that is not after the given one. */
const indexOfEpoch = (population, epoch) =>
  Math.max(0, population.epochs.findLastIndex((each) => each <= epoch));

/** Positions of the epochs at which members are finished networks: all, without a list. */
function measuredSteps(population) {
  const { measured } = methodOf(population.method), all = [...population.epochs.keys()];
  const steps = all.filter((step) => !measured || measured.includes(population.epochs[step]));
  return steps.length ? steps : all.slice(-1);
}

function mean(values) {
  const known = values.filter(Number.isFinite);
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : NaN;
}

/** Mean, standard deviation (NaN for fewer than two values) and number of the finite values. */
function summarize(values) {
  const known = values.filter(Number.isFinite), average = mean(known);
  const std = known.length < 2 ? NaN
    : Math.sqrt(mean(known.map((value) => (value - average) ** 2)));
  return { mean: average, std, n: known.length };
}

// The dense zoo is the first method.
const [denseMethod, ...twinMethods] = page.methods;
const methodOf = (key) => page.methods.find((method) => method.key === key);
const populationsOf = (key) => populations.filter((each) => each.method === key);
const dense = populationsOf(denseMethod.key)[0];
const tableNamed = (name) => page.tables.find((table) => table.name === name);

const prefersDark = matchMedia("(prefers-color-scheme: dark)");

/** Whether the page is dark: as chosen with the button, else as the system is. */
function isDark() {
  const { theme } = document.documentElement.dataset;
  return theme ? theme === "dark" : prefersDark.matches;
}

/** Escapes text for Plotly, which interprets some tags as markup. */
const escaped = (text) =>
  String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

/** Hover text of a member; cached, because sliders redraw often. */
function describe(population, member) {
  population.texts ??= population.member.map((_, each) => hoverText(population, each));
  return population.texts[member];
}

function hoverText(population, member) {
  const row = population.parent[member];
  const lines = [`member ${population.member[member]} (${population.label})`];
  if (population !== dense) lines.push(`of dense member ${members.id[row] ?? "–"}`);
  lines.push(`seed ${members.seed[row] ?? "–"}`);
  for (const [name, values] of Object.entries(members.hyper)) {
    lines.push(`${nameOf(name)} ${values[row] ?? "–"}`);
  }
  return lines.map(escaped).join("<br>");
}

const nameOf = (hyperparameter) => hyperparameter.replaceAll("_", " ");

// ---- Which members are shown ------------------------------------------------------------

const filters = {}; // The chosen group by hyperparameter, for those that are filtered.
const hiddenMethods = new Set();

const isFiltered = () => Object.keys(filters).length > 0;

/** Whether a dense member (a row of `members`) passes the filters. */
const passes = (row) => row >= 0 && Object.values(filters).every((group) => group.has(row));

/** Indices of the members of a population that pass the filters. */
const shown = (population) =>
  [...population.member.keys()].filter((member) => passes(population.parent[member]));

const shownMethods = () => twinMethods.filter(({ key }) => !hiddenMethods.has(key));

/** Indices of the highlighted members; they are shown even if filtered out. */
function highlighted(population) {
  const text = $("highlight").value.trim();
  const values = members[$("highlight-by").value];
  if (text === "") return [];
  return [...population.member.keys()].filter(
    (member) => String(values[population.parent[member]]) === text);
}

function countMembers() {
  const number = members.id.filter((_, row) => passes(row)).length;
  let text = `Showing ${number} of ${count(members.id.length, "member")}.`;
  const ids = highlighted(dense).map((member) => members.id[member]);
  if ($("highlight").value.trim() !== "") {
    text += ids.length ? ` Highlighted: ${ids.join(", ")}.` : " No such member.";
  }
  $("shown").textContent = text;
}

function makeFilters() {
  const names = Object.keys(members.hyper);
  for (const name of names) {
    const groups = groupsOf(name), select = make("select", "", { name });
    select.append(option("", "all"), ...groups.map(({ label }, i) => option(i, label)));
    select.addEventListener("change", () => {
      if (select.value === "") delete filters[name];
      else filters[name] = groups[Number(select.value)].rows;
      drawMembers();
    });
    const label = make("label", nameOf(name));
    label.append(select);
    $("filter-fields").append(label);
  }
  if (!names.length) {
    const text = "Members differ only in their seeds, so there is nothing to filter by.";
    $("filter-fields").append(make("p", text));
  }
  for (const { key, short } of twinMethods) {
    const box = make("input", "", { type: "checkbox", name: `show-${key}`, checked: true });
    box.addEventListener("change", () => {
      if (box.checked) hiddenMethods.delete(key);
      else hiddenMethods.add(key);
      drawMembers();
    });
    const label = make("label");
    label.append(box, short);
    $("methods").append(label);
  }
  $("methods-section").hidden = twinMethods.length < 2;
  for (const [id, checked] of [["show-all", true], ["show-none", false]]) {
    $(id).addEventListener("click", () => {
      for (const box of $("methods").querySelectorAll("input")) {
        if (box.checked !== checked) box.click();
      }
    });
  }
  $("color").append(option("", twinMethods.length ? "twin" : "nothing"),
    ...colorings().map(([name, text]) => option(name, text)));
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("highlight").addEventListener("input", drawMembers);
  for (const id of ["highlight-by", "color"]) $(id).addEventListener("change", drawMembers);
}
