// Summary cards of the members shown.

// Twins farther than this from the sparsity of a card are not compared at it.
const NEAR = 0.05;
// A ratio of weights differs from the mean sparsity by less than this.
const ROUNDING = 0.005;

/** Whether a ratio is the mean sparsity, except for rounding. */
const isSparsity = (ratio, sparsity) => ratio !== null && Math.abs(ratio - sparsity) < ROUNDING;

/** Where a twin may be compared, [population, position of an epoch]: with pruning ratios at the
 * last epoch only. */
function candidates(method) {
  const own = populationsOf(method.key);
  const steps = method.sweep === "ratio"
    ? own.filter(({ ratio }) => ratio > 0).map((p) => [p, p.epochs.length - 1])
    : own.flatMap((p) => measuredSteps(p).map((step) => [p, step]));
  return steps.map(([population, step]) => {
    const list = shown(population);
    const of = (metric) => summarize(list.map((member) => at(population, metric, member, step)));
    const sparsity = of("sparsity").mean;
    return {
      method, population, step, ...of(SCORE), sparsity,
      // A ratio is what was asked for; the mean sparsity may differ by rounding, or because the
      // ratio is not that of weights.
      place: isSparsity(population.ratio, sparsity) ? population.ratio : sparsity,
    };
  }).filter(({ n }) => n > 0);
}

/** The dense score from which the twins start. */
function denseAccuracy() {
  const starts = populations.map(({ start }) => start).filter((start) => start !== null);
  const step = indexOfEpoch(dense, starts.length ? Math.max(...starts) : Infinity);
  const values = shown(dense).map((member) => at(dense, SCORE, member, step));
  return { ...summarize(values), epoch: dense.epochs[step] };
}

/** The sparsity at which the twins are compared, chosen by the first twin: the highest one that
 * loses no more than a standard deviation of the dense accuracy, else the one that loses least. */
function comparison(base) {
  const rows = new Map(shownMethods().map((method) => [method, candidates(method)]));
  const byRatioFirst = [...rows.keys()].toSorted((a, b) =>
    (b.sweep === "ratio") - (a.sweep === "ratio"));
  const reference = byRatioFirst.find((method) => rows.get(method).length);
  if (!reference || !base.n) return null;
  const floor = base.mean - (base.std || 0), own = rows.get(reference);
  const kept = own.filter((row) => row.mean >= floor);
  const best = kept.length
    ? kept.reduce((a, b) => (b.place > a.place ? b : a))
    : own.reduce((a, b) => (b.mean > a.mean ? b : a));
  const nearest = (list) => list.reduce((a, b) =>
    (Math.abs(b.place - best.place) < Math.abs(a.place - best.place) ? b : a));
  const chosen = [...rows].map(([method, list]) => {
    const row = method === reference ? best : list.length ? nearest(list) : null;
    return { method, row: row && Math.abs(row.place - best.place) <= NEAR ? row : null };
  });
  return { reference, target: best.place, isKept: kept.length > 0, chosen };
}

/** Pearson's r and Kendall's tau-b of accuracy before and after, over the members shown. */
function correlation(population, step) {
  const start = indexOfEpoch(dense, population.start ?? Infinity);
  const pairs = shown(population).map((member) => [
    at(dense, SCORE, population.parent[member], start),
    at(population, SCORE, member, step),
  ]).filter((pair) => pair.every(Number.isFinite));
  const n = pairs.length, averages = [0, 1].map((i) => mean(pairs.map((pair) => pair[i])));
  const moment = (i, j) => pairs.reduce((sum, pair) =>
    sum + (pair[i] - averages[i]) * (pair[j] - averages[j]), 0);
  let concordant = 0, apartBefore = 0, apartAfter = 0;
  for (let i = 0; i < n; i++) {
    const [before, after] = pairs[i];
    for (let j = 0; j < i; j++) {
      const one = Math.sign(before - pairs[j][0]), other = Math.sign(after - pairs[j][1]);
      concordant += one * other;
      apartBefore += Math.abs(one);
      apartAfter += Math.abs(other);
    }
  }
  return {
    n,
    pearson: moment(0, 1) / Math.sqrt(moment(0, 0) * moment(1, 1)),
    kendall: concordant / Math.sqrt(apartBefore * apartAfter),
  };
}

const meanText = ({ mean: value, std }) =>
  percent(value) + (Number.isFinite(std) ? ` (${(100 * std).toFixed(1)})` : "");

const meanScore = (found) => (page.score.percent ? meanText(found)
  : scoreText(found.mean) + (Number.isFinite(found.std) ? ` (${found.std.toFixed(1)})` : ""));

/** A line of a card: [label, number of members or null, value]. */
function rowLabel({ method, population, step, sparsity }) {
  const sparse = isSparsity(population.ratio, sparsity) ? "" : ` (${percent(sparsity, 0)} sparse)`;
  return method.sweep === "ratio" ? `${population.label}${sparse}`
    : `${method.short}, epoch ${population.epochs[step]} (${percent(sparsity, 0)} sparse)`;
}

function comparisonCards(base) {
  const selection = comparison(base);
  if (!selection) return [];
  const { reference, target, isKept, chosen } = selection, place = percent(target, 0);
  const near = chosen.filter(({ row }) => row).map(({ row }) => row);
  const lines = (text) => chosen.map(({ method, row }) =>
    (row ? text(row) : [method.short, null, `not near ${place}`]));
  const what = reference.sweep === "ratio" ? "pruning ratio" : "sparsity of an epoch";
  const limit = base.n > 1 ? "within one standard deviation of the dense mean"
    : "no lower than dense";
  const result = [{
    title: `${capitalized(page.score.short)} at ${place} sparsity`,
    lines: lines((row) => [rowLabel(row), row.n, meanScore(row)]),
    about: `Mean (std). ${isKept
      ? `The highest ${what} of ${reference.short} with a mean ${limit}.`
      : `The ${what} of ${reference.short} that loses the least; none is ${limit}.`}`,
  }];
  const agreed = near.map((row) => [row, parentAgreement(row)]).filter(([, found]) => found);
  if (agreed.length) {
    result.push({
      title: `Agreement with the parent at ${place}`,
      lines: agreed.map(([row, found]) => [rowLabel({ ...row, step: found.step }), found.n,
        found.n ? meanText(found) : FEW]),
      about: "Mean (std) fraction of test images for which twin and parent predict the same class.",
    });
  }
  result.push({
    title: `${capitalized(page.score.short)} before and after, at ${place}`,
    lines: near.map((row) => {
      const found = correlation(row.population, row.step);
      return [rowLabel(row), found.n, found.n < page.minCorrelated ? FEW
        : Number.isFinite(found.pearson)
          ? `r ${found.pearson.toFixed(2)}, τ ${found.kendall.toFixed(2)}` : "all are equal"];
    }),
    about: `Pearson's r and Kendall's tau over at least ${page.minCorrelated} members.`,
  });
  return result;
}

/** Agreement with the parents at the compared epoch that is nearest to the one of a row. */
function parentAgreement({ population, step }) {
  const { agreement, epochs } = population;
  if (!agreement) return null;
  agreement.decoded ??= decode(agreement.codes, 0, 1, 2);
  const distance = (i) => Math.abs(agreement.epochs[i] - epochs[step]);
  const column = [...agreement.epochs.keys()].reduce((a, b) => (distance(b) < distance(a) ? b : a));
  const values = shown(population).map((member) =>
    agreement.decoded[member * agreement.epochs.length + column]);
  return { ...summarize(values), step: epochs.indexOf(agreement.epochs[column]) };
}

function crossoverText({ above, below, point, ratios }) {
  if (ratios < 2) return FEW; // At one ratio alone nothing can change.
  if (above === null) return "none measured";
  const bracket = `${ratioText(above)} to ${ratioText(below)}`;
  return point === null ? bracket : `${bracket}, about ${percent(point, 0)}`;
}

/** The crossovers, which are over all members: a bracket of two measured ratios. */
function crossoverCards() {
  const pairs = page.crossovers.filter(({ one, other }) =>
    !hiddenMethods.has(one) && !hiddenMethods.has(other));
  if (!pairs.length) return [];
  return [{
    title: "Crossover",
    lines: pairs.map((pair) => [
      `${methodOf(pair.other).short} overtakes ${methodOf(pair.one).short}`, pair.members,
      crossoverText(pair),
    ]),
    about: "Sparsity: between two neighboring measured ratios. Of all members"
      + `${isFiltered() ? ", not only of those shown" : ""}.`,
  }];
}

function drawCards() {
  const base = denseAccuracy();
  const cards = [{
    title: `Dense ${page.score.short}`,
    lines: [["dense", base.n, base.n ? meanScore(base) : FEW]],
    about: `Mean (std) of the finite members at epoch ${base.epoch}.`,
  }, ...comparisonCards(base), ...crossoverCards()];
  $("cards").replaceChildren(...cards.map(({ title, lines, about }) => {
    const card = make("article", "", { className: "card" }), numbers = make("dl");
    for (const [label, n, value] of lines) {
      const line = make("div"), name = make("dt", label);
      if (n !== null) name.append(make("span", ` n = ${n}`, { className: "number" }));
      line.append(name, make("dd", value));
      numbers.append(line);
    }
    card.append(make("h3", title), numbers, make("p", about));
    return card;
  }));
}
