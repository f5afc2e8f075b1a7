"use strict";
// The report page: data access, and the filters that select members. figures.js draws the
// figures; tables.js fills in the rest and starts the page. Data is only set as text, never
// as markup.

const page = JSON.parse(document.getElementById("data").textContent);
const { members, populations } = page;

const $ = (id) => document.getElementById(id);
const option = (value, text) => Object.assign(new Option(text), { value });

/** Creates an element with text and properties. */
function make(tag, text = "", properties = {}) {
  return Object.assign(document.createElement(tag), { textContent: text }, properties);
}

// ---- Data -------------------------------------------------------------------------------

/** Decodes a metric, [members x epochs], from base64 of little-endian uint16: 0 is `low`,
 * 65534 is `high`, 65535 is non-finite. The result is cached. */
function metricValues(population, metric) {
  const coded = population.values[metric];
  if (!coded.decoded) {
    const { low, high, codes } = coded, bytes = atob(codes);
    coded.decoded = new Float32Array(bytes.length / 2);
    for (let i = 0; i < coded.decoded.length; i++) {
      const code = bytes.charCodeAt(2 * i) + 256 * bytes.charCodeAt(2 * i + 1);
      coded.decoded[i] = code === 65535 ? NaN : low + ((high - low) * code) / 65534;
    }
  }
  return coded.decoded;
}

/** A metric of one member at a position of the population's epochs. */
const at = (population, metric, member, epoch) =>
  metricValues(population, metric)[member * population.epochs.length + epoch];

/** Index of the last epoch that is not after the given one. */
const indexOfEpoch = (population, epoch) =>
  Math.max(0, population.epochs.findLastIndex((each) => each <= epoch));

function mean(values) {
  const known = values.filter(Number.isFinite);
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : NaN;
}

// The dense zoo is the first method.
const [denseMethod, ...twinMethods] = page.methods;
const methodOf = (key) => page.methods.find((method) => method.key === key);
const dense = populations.find((each) => each.method === denseMethod.key);
const twins = populations.filter((each) => each.method !== denseMethod.key);
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
  if (population !== dense) lines.push(`of dense member ${members.id[row]}`);
  lines.push(`seed ${members.seed[row]}`);
  for (const [name, values] of Object.entries(members.hyper)) {
    lines.push(`${name.replaceAll("_", " ")} ${values[row] ?? "–"}`);
  }
  return lines.map(escaped).join("<br>");
}

// ---- Which members are shown ------------------------------------------------------------

const filters = {}; // Selected value by hyperparameter, for those that are filtered.

/** Whether a dense member (a row of `members`) passes the filters. */
const passes = (row) =>
  row >= 0 && Object.entries(filters).every(([name, value]) => members.hyper[name][row] === value);

/** Indices of the members of a population that pass the filters. */
const shown = (population) =>
  [...population.member.keys()].filter((member) => passes(population.parent[member]));

/** Indices of the highlighted members; they are shown even if filtered out. */
function highlighted(population) {
  const text = $("highlight").value.trim();
  const values = members[$("highlight-by").value];
  if (text === "") return [];
  return [...population.member.keys()].filter(
    (member) => String(values[population.parent[member]]) === text);
}

function countMembers() {
  const count = members.id.filter((_, row) => passes(row)).length;
  let text = `Showing ${count} of ${members.id.length} members.`;
  const ids = highlighted(dense).map((member) => members.id[member]);
  if ($("highlight").value.trim() !== "") {
    text += ids.length ? ` Highlighted: ${ids.join(", ")}.` : " No such member.";
  }
  $("shown").textContent = text;
}

function makeFilters() {
  const names = Object.keys(members.hyper);
  for (const name of names) {
    const values = [...new Set(members.hyper[name])].sort((a, b) => (a > b) - (a < b));
    const select = make("select", "", { name });
    select.append(option("", "all"), ...values.map((value, i) => option(i, value ?? "–")));
    select.addEventListener("change", () => {
      if (select.value === "") delete filters[name];
      else filters[name] = values[Number(select.value)];
      drawMembers();
    });
    const label = make("label", name.replaceAll("_", " "));
    label.append(select);
    $("filter-fields").append(label);
  }
  if (!names.length) {
    const text = "Members differ only in their seeds, so there is nothing to filter by.";
    $("filter-fields").append(make("p", text));
  }
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("highlight").addEventListener("input", drawMembers);
  $("highlight-by").addEventListener("change", drawMembers);
}
