// Groups of members by the value of a hyperparameter, for filters and colors.

// Okabe and Ito's color-blind-safe palette.
const PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"];
const UNKNOWN = "#8a8f98";
// From Viridis, without its ends, which are hard to see on a dark or a light page.
const ORDERED = ["#46317e", "#365c8d", "#277f8e", "#1fa187", "#4ac16d", "#9fda3a"];
// Values are grouped if there are more of them.
const MAX_VALUES = 12;
const BINS = 6;
const ACCURACY = "accuracy"; // No hyperparameter has this name.

const groupCache = new Map();

/** Groups of `members` by a hyperparameter, or by dense accuracy: [{label, color, rows}], where
 * `rows` is a set of rows of `members`. Many numbers are grouped in ranges of about equally many
 * members; of many texts, the rarest are one group. */
function groupsOf(name) {
  if (!groupCache.has(name)) groupCache.set(name, makeGroups(valuesOf(name), name === ACCURACY));
  return groupCache.get(name);
}

/** The values of a hyperparameter, or the accuracies of the dense zoo's last epoch. */
function valuesOf(name) {
  if (name !== ACCURACY) return members.hyper[name];
  const last = dense.epochs.length - 1;
  return dense.member.map((_, member) => {
    const value = at(dense, SCORE, member, last);
    return Number.isFinite(value) ? value : null;
  });
}

/** What members can be colored by: [name, text]. */
const colorings = () => [
  ...Object.keys(members.hyper).map((name) => [name, nameOf(name)]),
  ...(members.id.length > 1 ? [[ACCURACY, `dense ${page.score.short}`]] : []),
];

function makeGroups(values, isScore) {
  const rows = new Map();
  values.forEach((value, row) => rows.set(value, [...(rows.get(value) ?? []), row]));
  const distinct = [...rows.keys()].filter((value) => value !== null);
  const isNumeric = distinct.every((value) => typeof value === "number");
  distinct.sort(isNumeric ? (a, b) => a - b : (a, b) => (a > b) - (a < b));
  let groups = distinct.map((value) => [String(value), rows.get(value)]);
  if (isScore || groups.length > MAX_VALUES) {
    groups = isNumeric ? binned(distinct, rows, isScore ? scoreText : shortNumber)
      : withoutRare(groups);
  }
  const result = groups.map(([label, list], i) => ({
    label, color: groupColor(i, groups.length, isNumeric), rows: new Set(list),
  }));
  if (rows.has(null)) {
    result.push({ label: "unknown", color: UNKNOWN, rows: new Set(rows.get(null)) });
  }
  return result;
}

const shortNumber = (value) => String(Number(value.toPrecision(3)));

function binned(distinct, rows, text) {
  const sorted = distinct.flatMap((value) => rows.get(value).map(() => value)), groups = [];
  for (let bin = 0, from = 0; bin < BINS; bin++) {
    const end = sorted[Math.ceil(((bin + 1) * sorted.length) / BINS) - 1];
    const inside = distinct.slice(from).filter((value) => value <= end);
    if (!inside.length) continue;
    from += inside.length;
    const [low, high] = [inside[0], inside.at(-1)].map((value) => text(value));
    groups.push([low === high ? low : `${low} to ${high}`,
      inside.flatMap((value) => rows.get(value))]);
  }
  return groups;
}

function withoutRare(groups) {
  const bySize = groups.toSorted((a, b) => b[1].length - a[1].length);
  const rare = bySize.slice(MAX_VALUES - 1).flatMap(([, rows]) => rows);
  return [...bySize.slice(0, MAX_VALUES - 1), ["others", rare]];
}

function groupColor(i, total, isNumeric) {
  if (isNumeric) return ORDERED[Math.round((i * (ORDERED.length - 1)) / Math.max(total - 1, 1))];
  return total <= PALETTE.length ? PALETTE[i] : `hsl(${Math.round((360 * i) / total)},60%,50%)`;
}

/** What members are colored by, as groups; null if by twin. */
const colorGroups = () => ($("color").value ? groupsOf($("color").value) : null);
