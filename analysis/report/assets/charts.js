"use strict";
// Draws the charts when they come into view. Colours are CSS variables, so themes need no redraw.
const DATA = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") element.className = value;
    else if (name in element && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function coloured(node) {
  if (typeof node === "string") return /^\$\w+$/.test(node) ? `var(--${node.slice(1)})` : node;
  if (Array.isArray(node)) return node.map(coloured);
  if (node && typeof node === "object")
    return Object.fromEntries(Object.entries(node).map(([key, value]) => [key, coloured(value)]));
  return node;
}

function chartConfig(narrow) {
  const text = { labelColor: "var(--muted)", titleColor: "var(--muted)", titleFontWeight: "normal" };
  const font = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', Arial, sans-serif";
  return {
    background: null,
    font,
    view: { stroke: "var(--line)" },
    axis: { ...text, gridColor: "var(--line)", domainColor: "var(--line)", tickColor: "var(--line)",
            labelFontSize: 12, titleFontSize: 12, labelLimit: narrow ? 104 : 340 },
    axisX: { tickCount: narrow ? 4 : 8, grid: true },
    legend: { labelColor: "var(--ink)", titleColor: "var(--muted)", labelFontSize: 12,
              labelLimit: 340, columns: narrow ? 1 : 3, symbolStrokeWidth: 2 },
  };
}

function viewOf(figure) {
  const picked = figure.querySelector("input[type=radio]:checked");
  return picked ? picked.value : Object.keys(DATA.charts[figure.dataset.chart].variants)[0];
}

// Names that begin alike, as those of swept values do, differ at their ends.
const SHORTENED =
  "length(datum.label) > 18 ? slice(datum.label, 0, 6) + '…' + slice(datum.label, -10) : datum.label";

async function draw(figure, label = viewOf(figure)) {
  const chart = DATA.charts[figure.dataset.chart];
  const plot = figure.querySelector(".plot");
  const narrow = plot.clientWidth < 560;
  let spec = structuredClone(chart.variants[label]);
  let datasets = chart.datasets;
  if (chart.name === "curves") [spec, datasets] = chosenCurves(spec);
  spec = coloured(spec);
  spec.datasets = datasets;
  if (narrow) spec.layer = spec.layer.filter((layer) => layer.name !== "labels");
  if (narrow) for (const layer of spec.layer)
    for (const channel of ["x", "y", "color", "shape", "strokeDash"]) {
      const encoding = layer.encoding[channel];
      if (channel === "x" && encoding && encoding.title) encoding.title = encoding.title.split(", ");
      if (encoding && encoding.axis) Object.assign(encoding.axis, { labelLimit: 120, labelExpr: SHORTENED });
      if (encoding && encoding.legend) encoding.legend.columns = 1;
    }
  if (figure.view) figure.view.finalize();
  const result = await vegaEmbed(plot, spec, {
    actions: false, renderer: "svg", ast: true, config: chartConfig(narrow),
  });
  figure.view = result.view;
  figure.dataset.drawn = label;
  plot.querySelector("svg").setAttribute("aria-hidden", "true");
}

const figures = [...document.querySelectorAll("figure.chart")];
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries)
    if (entry.isIntersecting) { seen.unobserve(entry.target); draw(entry.target); }
}, { rootMargin: "300px" });

function startCharts() {
  for (const figure of figures) {
    figure.addEventListener("change", (event) => { if (event.target.type === "radio") draw(figure); });
    seen.observe(figure);
  }
}
addEventListener("beforeprint", () => figures.filter((f) => !f.dataset.drawn).forEach((f) => draw(f)));
const phone = matchMedia("(max-width: 640px)");
phone.addEventListener("change", () => figures.filter((f) => f.dataset.drawn).forEach((f) => draw(f)));

// --- curves: an arm keeps its colour and dash as long as it is shown
const slots = new Map();
function chosenCurves(spec) {
  const used = [...slots.values()].sort((a, b) => a - b);
  for (const layer of spec.layer) for (const channel of ["color", "fill", "strokeDash"]) {
    const encoding = layer.encoding[channel];
    if (encoding) encoding.scale.range = used.map((slot) => encoding.scale.range[slot]);
  }
  const metric = byId("curve-metric").value, from = Number(byId("curve-part").value);
  const top = DATA.curves.tops[metric];
  for (const layer of spec.layer) {
    layer.encoding.y.title = `${DATA.curves.metrics[metric]}, nats per token`;
    if (top !== null) layer.encoding.y.scale.domainMax = top;
  }
  const rows = [];
  for (const curve of DATA.curves.by_metric[metric] || []) {
    if (!slots.has(curve.arm)) continue;
    const last = curve.tokens[curve.tokens.length - 1];
    curve.tokens.forEach((tokens, i) => {
      if (tokens >= from * last && tokens > 0) rows.push({ arm: curve.arm, slot: slots.get(curve.arm), n: curve.n, tokens, step: curve.step[i],
        mean: curve.mean[i], low: curve.low[i], high: curve.high[i] });
    });
  }
  return [spec, { curves: rows }];
}

function startCurves() {
  const figure = figures.find((f) => f.dataset.chart === "curves");
  if (!figure) return;
  const most = DATA.curves.most, chips = byId("curve-arms"), count = byId("curve-count");
  for (const metric of Object.keys(DATA.curves.by_metric))
    byId("curve-metric").append(make("option", { value: metric }, DATA.curves.metrics[metric]));
  const free = () => [...Array(most).keys()].find((i) => ![...slots.values()].includes(i));
  const known = new Set(Object.values(DATA.curves.by_metric).flat().map((curve) => curve.arm));
  const arms = DATA.arms.filter((arm) => known.has(arm));
  const say = () => { count.textContent = `(${slots.size} of ${arms.length} shown, at most ${most} at once)`; };
  arms.forEach((arm) => {
    const box = make("input", { type: "checkbox", value: arm });
    const label = make("label", {}, box, make("span", {}, arm));
    const paint = () => label.style.setProperty("--chip", box.checked ? `var(--series${slots.get(arm)})` : "");
    if (slots.size < most) { slots.set(arm, free()); box.checked = true; }
    paint();
    box.addEventListener("change", () => {
      if (box.checked && slots.size >= most) { box.checked = false; say(); return; }
      if (box.checked) slots.set(arm, free()); else slots.delete(arm);
      paint(); say(); draw(figure);
    });
    chips.append(label);
  });
  say();
  for (const id of ["curve-metric", "curve-part"]) byId(id).addEventListener("change", () => draw(figure));
}
startCurves();
addEventListener("DOMContentLoaded", startCharts);  // the library comes last in the file
