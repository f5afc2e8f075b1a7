// Comparison of all methods at one sparsity: accuracies, and differences from one of them. The
// numbers are those of the tables, over all members.

const ranking = tableNamed("added_method_ranking");
const differences = tableNamed("added_method_differences");
const overlaps = tableNamed("added_mask_overlap");
const columnOf = (table, name) => table.columns.find((each) => each.name === name);

/** The rows of a table at a sparsity, as objects of the named columns. */
function rowsAt(table, sparsity, names) {
  if (!table) return [];
  const columns = names.map((name) => [name, columnOf(table, name)]);
  return columnOf(table, "sparsity").values.flatMap((each, row) => {
    if (each !== sparsity) return [];
    return [Object.fromEntries(columns.flatMap(([name, { values, low, high }]) => [
      [name, values[row]], [`${name}_low`, low?.[row]], [`${name}_high`, high?.[row]],
    ]))];
  });
}

/** The methods of the page that belong to a compared method: those of one twin. */
const partsOf = (short) => twinMethods.filter((method) =>
  method.short === short || method.short.startsWith(`${short} `));
const isShown = (short) => partsOf(short).some(({ key }) => !hiddenMethods.has(key));

const chosenSparsity = () =>
  columnOf(ranking, "sparsity").values.find((each) => ratioText(each) === $("k-sparsity").value);

/** (k) Accuracy of each method at a sparsity, the most accurate one on top. */
function drawRanking() {
  if (!ranking) return;
  const at = chosenSparsity();
  const names = ["method", "test_acc", "budget", "members", "rank", "better", "interpolated"];
  const rows = rowsAt(ranking, at, names).filter(({ method }) => isShown(method)).reverse();
  $("k").style.height = `${90 + 24 * Math.max(rows.length, 3)}px`;
  const color = (row) => colorOf(partsOf(row.method)[0].key);
  const trace = (name, list, symbol) => ({
    name, mode: "markers", x: list.map((row) => row.test_acc), y: list.map((row) => row.method),
    marker: { size: 10, symbol, color: list.map(color) },
    error_x: {
      symmetric: false, thickness: 1.5, width: 4, color: muted(),
      array: list.map((row) => (row.test_acc_high ?? row.test_acc) - row.test_acc),
      arrayminus: list.map((row) => row.test_acc - (row.test_acc_low ?? row.test_acc)),
    },
    text: list.map((row) => `${escaped(row.method)}: budget ${row.budget} epochs, `
      + `${count(row.members, "member")}${row.interpolated > 0.5 ? ", interpolated" : ""}`),
    hovertemplate: "%{text}<br>accuracy %{x:.1%}<extra></extra>",
  });
  const best = rows.filter((row) => row.better === 0), others = rows.filter((row) => row.better);
  plot("k", [trace("no method is significantly better", best, "circle"),
    trace("some method is", others, "circle-open")], { title: "test accuracy", ...share },
    { title: "", type: "category", categoryarray: rows.map(({ method }) => method), dtick: 1 },
    `k ${at}`);
}

const pointsText = (value) => (Number.isFinite(value) ? points(value) : "–");
const pText = (value) => (value === null ? "–" : value < 1e-3 ? "< 0.001" : value.toFixed(3));

/** Differences of the methods from one of them, as a table. */
function drawDifferences() {
  if (!differences) return;
  const at = chosenSparsity(), reference = $("k-reference").value;
  const other = (row) => (row.method === reference ? row.other_method : row.method);
  const involved = (row) => [row.method, row.other_method].includes(reference);
  const masks = new Map(rowsAt(overlaps, at, ["method", "other_method", "overlap", "chance"])
    .filter(involved).map((row) => [other(row), row]));
  const names = ["method", "other_method", "members", "difference", "wins", "p_holm", "better"];
  const lines = rowsAt(differences, at, names).filter(involved).map((row) => {
    const sign = row.method === reference ? -1 : 1, ends = [row.difference_low, row.difference_high];
    const [low, high] = sign < 0 ? ends.map((end) => -end).reverse() : ends;
    const wins = sign < 0 ? 1 - row.wins : row.wins;
    return { ...row, name: other(row), difference: sign * row.difference, low, high, wins };
  }).filter(({ name }) => isShown(name)).sort((a, b) => b.difference - a.difference);
  const head = make("tr"), body = make("tbody"), table = make("table"), top = make("thead");
  for (const [i, text] of ["method", "difference [95%], points", "more accurate in", "p (Holm)",
    "members", "overlap of masks", "by chance"].entries()) {
    head.append(make("th", text, { scope: "col", className: i ? "" : "text" }));
  }
  top.append(head);
  for (const line of lines) {
    const row = make("tr"), mask = masks.get(line.name);
    const interval = `${pointsText(line.difference)} [${pointsText(line.low)}, `
      + `${pointsText(line.high)}]`;
    row.append(make("td", line.name, { className: "text" }),
      make("td", interval, { className: line.better ? "shaded" : "" }),
      ...[percent(line.wins, 0), pText(line.p_holm), line.members, percent(mask?.overlap),
        percent(mask?.chance)].map((text) => make("td", text)));
    body.append(row);
  }
  table.append(top, body);
  $("k-table").replaceChildren(lines.length ? table
    : make("p", `${reference} shares no members with other methods at this sparsity.`));
}

function makeComparison() {
  $("k-section").hidden = !ranking;
  if (!ranking) return;
  const sparsities = [...new Set(columnOf(ranking, "sparsity").values)];
  $("k-sparsity").append(...sparsities.map((each) => option(ratioText(each), ratioText(each))));
  // Opened at the highest sparsity that most methods reach.
  const reach = (each) => columnOf(ranking, "sparsity").values.filter((s) => s === each).length;
  const most = Math.max(...sparsities.map(reach));
  const start = sparsities.findLastIndex((each) => reach(each) === most);
  $("k-sparsity").dataset.start = ratioText(sparsities[start]);
  const names = [...new Set(columnOf(ranking, "method").values)].sort();
  $("k-reference").append(...names.map((name) => option(name, name)));
  // The best one, from which all others differ.
  const best = rowsAt(ranking, sparsities[start], ["method"])[0].method;
  $("k-reference").dataset.start = best;
  $("k-sparsity").value = ratioText(sparsities[start]);
  $("k-reference").value = best;
  const both = () => [drawRanking, drawDifferences].forEach(scheduleDraw);
  $("k-sparsity").addEventListener("change", both);
  $("k-reference").addEventListener("change", both);
}
