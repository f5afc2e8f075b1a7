// Plots of a hyper-representation: two-dimensional embeddings and reconstruction.

const representation = page.representation;
const PROPERTIES = { test_acc: "test accuracy", sparsity: "sparsity", epoch: "epoch", ggap: "gap" };
const PARTS = { train: "training", val: "validation", test: "held out" };

/** Returns a quantile of the finite values. */
function quantile(values, fraction) {
  const finite = values.filter(Number.isFinite).sort((a, b) => a - b);
  return finite.length ? finite[Math.round(fraction * (finite.length - 1))] : 0;
}

/** (e) Embeddings in two dimensions, colored by a property. */
function drawMap() {
  if (!representation) return;
  const { states } = representation, property = $("e-property").value, chosen = $("e-part").value;
  const values = states[property], isInteger = property === "epoch";
  // Color limits at quantiles, so that outliers do not compress the color scale.
  const scale = { cmin: quantile(values, 0.01), cmax: quantile(values, 0.99) };
  const format = isInteger ? "%{marker.color}" : "%{marker.color:.1%}";
  const traces = Object.keys(PARTS).filter((part) => !chosen || part === chosen).map((part, i) => {
    const rows = [...values.keys()].filter((row) => states.part[row] === part);
    return {
      name: PARTS[part], mode: "markers",
      x: rows.map((row) => states.x[row]), y: rows.map((row) => states.y[row]),
      text: rows.map((row) =>
        `member ${states.member[row]}, epoch ${states.epoch[row]} (${PARTS[part]})`),
      marker: {
        ...scale, color: rows.map((row) => values[row]), colorscale: "Viridis",
        size: 7, opacity: 0.8, symbol: SYMBOLS[Object.keys(PARTS).indexOf(part)],
        showscale: i === 0,
        colorbar: { title: { text: PROPERTIES[property] }, ...(isInteger ? {} : share) },
      },
      hovertemplate: `%{text}<br>${PROPERTIES[property]} ${format}<extra></extra>`,
    };
  });
  plot("e", traces, { title: "first component" }, { title: "second component" }, "e");
}

/** (f) Reconstructed against true values of one layer. */
function drawReconstruction() {
  if (!representation) return;
  const pairs = representation.pairs[Number($("f-layer").value)];
  const ends = ["true", "reconstructed"].map((name) => pairs[name]).flat();
  const range = [quantile(ends, 0.001), quantile(ends, 0.999)];
  const unit = pairs.quantity === "weights" ? "weight (std of its layer)" : "log alpha";
  const traces = [{
    name: escaped(pairs.layer), mode: "markers", x: pairs.true, y: pairs.reconstructed,
    marker: { size: 5, opacity: 0.35, color: visible(PALETTE[0]) },
    hovertemplate: "true %{x:.2f}<br>reconstructed %{y:.2f}<extra></extra>",
  }, {
    name: "perfect reconstruction", mode: "lines", x: range, y: range, hoverinfo: "skip",
    line: { color: foreground(), width: 1.5, dash: "dash" },
  }];
  $("f-title").textContent = pairs.r2 === null ? ""
    : `R² ${(100 * pairs.r2).toFixed(1)}%` +
      (pairs.quantity === "weights" ? "." : ", on the scale of the loss.");
  plot("f", traces, { title: `true ${unit}`, range },
    { title: "reconstructed", range }, `f ${$("f-layer").value}`);
}

function makeRepresentation() {
  $("representation-section").hidden = !representation;
  if (!representation) return;
  const count = representation.states.x.length;
  const { total } = representation;
  $("e-title").textContent =
    "One dot per member and epoch: two principal components of its embedding"
    + (count < total ? `; ${count} of ${total}, sampled at random.` : ".");
  $("e-property").append(...Object.entries(PROPERTIES).map(([name, text]) => option(name, text)));
  $("e-part").append(option("", "all"),
    ...Object.entries(PARTS).map(([name, text]) => option(name, text)));
  $("f-layer").append(...representation.pairs.map(({ quantity, layer }, i) =>
    option(i, `${quantity}, ${layer}`)));
  for (const id of ["e-property", "e-part"]) {
    $(id).addEventListener("change", () => scheduleDraw(drawMap));
  }
  $("f-layer").addEventListener("change", () => scheduleDraw(drawReconstruction));
}
