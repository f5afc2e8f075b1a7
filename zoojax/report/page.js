"use strict";
// The report page: the data, and which members are shown. figures.js draws, tables.js fills
// in the rest and begins. Whatever comes from the data is set as text, never as markup.

const page = JSON.parse(document.getElementById("data").textContent);
const { members, populations } = page;

const $ = (id) => document.getElementById(id);
const option = (value, text) => Object.assign(new Option(text), { value });

/** An element with a text and properties. */
function make(tag, text = "", properties = {}) {
  return Object.assign(document.createElement(tag), { textContent: text }, properties);
}

// ---- Data -------------------------------------------------------------------------------

/** Numbers of [members x epochs] from base64 of little-endian uint16: 0 stands for `low`,
 * 65534 for `high`, 65535 for a number that is not finite. Kept once decoded. */
function numbers(population, metric) {
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
  numbers(population, metric)[member * population.epochs.length + epoch];

/** The position of the newest epoch up to one asked for. */
const until = (population, epoch) =>
  Math.max(0, population.epochs.findLastIndex((each) => each <= epoch));

function mean(values) {
  const known = values.filter(Number.isFinite);
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : NaN;
}

const dense = populations.find((each) => each.method === "dense");
const twins = populations.filter((each) => each.method !== "dense");
const named = (name) => page.tables.find((table) => table.name === name);

const prefersDark = matchMedia("(prefers-color-scheme: dark)");

/** Is the page dark: by the button if it was used, else as the reader's system is? */
function isDark() {
  const { theme } = document.documentElement.dataset;
  return theme ? theme === "dark" : prefersDark.matches;
}

/** Text as Plotly shows it: it takes some tags in a text for markup. */
const escaped = (text) =>
  String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

/** What hover shows of a member; kept, since the sliders ask again and again. */
function describe(population, member) {
  population.texts ??= population.member.map((_, each) => description(population, each));
  return population.texts[member];
}

function description(population, member) {
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

const wanted = {}; // Hyper-parameter to value, of those that are filtered by.

/** Is a dense member (a row of `members`) shown? */
const shows = (row) =>
  row >= 0 && Object.entries(wanted).every(([name, value]) => members.hyper[name][row] === value);

/** Positions of the members of a population that are shown. */
const shown = (population) =>
  [...population.member.keys()].filter((member) => shows(population.parent[member]));

/** Positions of those that the reader looks for; shown even when filtered out. */
function highlighted(population) {
  const text = $("highlight").value.trim();
  const values = members[$("highlight-by").value];
  if (text === "") return [];
  return [...population.member.keys()].filter(
    (member) => String(values[population.parent[member]]) === text);
}

function countMembers() {
  const count = members.id.filter((_, row) => shows(row)).length;
  let text = `Showing ${count} of ${members.id.length} members.`;
  const found = highlighted(dense).map((member) => members.id[member]);
  if ($("highlight").value.trim() !== "") {
    text += found.length ? ` Highlighted: ${found.join(", ")}.` : " No such member.";
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
      if (select.value === "") delete wanted[name];
      else wanted[name] = values[Number(select.value)];
      drawMembers();
    });
    const label = make("label", name.replaceAll("_", " "));
    label.append(select);
    $("filter-fields").append(label);
  }
  if (!names.length) {
    const text = "Members differ in their seeds alone: nothing to filter by.";
    $("filter-fields").append(make("p", text));
  }
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("highlight").addEventListener("input", drawMembers);
  $("highlight-by").addEventListener("change", drawMembers);
}
