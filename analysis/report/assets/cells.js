"use strict";
// The samples side by side, and the drawer of one cell. Text from runs goes in as text nodes only.
const samplesByArm = new Map();
for (const entry of DATA.samples) {
  if (!samplesByArm.has(entry.arm)) samplesByArm.set(entry.arm, []);
  samplesByArm.get(entry.arm).push(entry);
}
const everyStep = byId("sample-all");

function sampleArticle([step, tokens, prompt, completion]) {
  const paragraph = make("p");
  if (completion.startsWith(prompt))
    paragraph.append(make("span", { class: "prompt" }, prompt), completion.slice(prompt.length));
  else paragraph.append(completion);
  const head = `step ${step.toLocaleString("en")} · ${(tokens || 0).toLocaleString("en")} tokens`;
  return make("article", {}, make("h3", {}, head), paragraph);
}

function startSamples(panel, arms, first) {
  const get = (name) => panel.querySelector(`.sample-${name}`);
  const arm = get("arm"), seed = get("seed"), step = get("step"), at = get("at");
  const texts = panel.querySelector(".texts");
  for (const name of arms) arm.append(make("option", { value: name }, name));
  arm.value = first;
  const entry = () => samplesByArm.get(arm.value)[seed.selectedIndex];
  const steps = () => [...new Set(entry().rows.map((row) => row[0]))];
  function show() {
    const chosen = steps()[Number(step.value)];
    at.textContent = everyStep.checked ? "all" : chosen.toLocaleString("en");
    step.disabled = everyStep.checked;
    step.setAttribute("aria-valuetext", `step ${chosen}`);
    texts.replaceChildren(...entry().rows.filter((row) => everyStep.checked || row[0] === chosen).map(sampleArticle));
  }
  function seedChanged() { step.max = steps().length - 1; step.value = step.max; show(); }
  function armChanged() {
    seed.replaceChildren(...samplesByArm.get(arm.value).map((e) => make("option", {}, String(e.seed))));
    seedChanged();
  }
  arm.addEventListener("change", armChanged);
  seed.addEventListener("change", seedChanged);
  step.addEventListener("input", show);
  everyStep.addEventListener("change", show);
  armChanged();
}
if (everyStep) {
  const arms = DATA.arms.filter((name) => samplesByArm.has(name));
  const panels = document.querySelectorAll(".sample");
  startSamples(panels[0], arms, arms[0]);
  startSamples(panels[1], arms, arms[1] || arms[0]);
}

// --- drawer
const drawer = byId("drawer"), drawerCell = byId("drawer-cell"), drawerBody = byId("drawer-body");

function rowsTable(pairs, head) {
  const body = make("tbody", {}, ...pairs.map(([name, ...values]) =>
    make("tr", {}, make("th", { scope: "row" }, name), ...values.map((v) => make("td", {}, v)))));
  const table = make("table", {});
  if (head) table.append(make("thead", {}, make("tr", {}, ...head.map((h) => make("th", { scope: "col" }, h)))));
  table.append(body);
  return table;
}
const shown = (value) => (value === null || value === undefined ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value));

function cellParts(cell) {
  const parts = [];
  for (const [name, card] of Object.entries(cell.cards))
    parts.push(make("h3", {}, name), make("p", {}, [card.summary, card.source].filter(Boolean).join(" · ")));
  parts.push(make("h3", {}, "Difference to the baseline's configuration"));
  const changes = Object.entries(cell.changes).map(([key, [from, to]]) => [key, shown(from), shown(to)]);
  parts.push(changes.length ? rowsTable(changes, ["key", "baseline", "this arm"]) : make("p", {}, "None: this is the baseline's configuration."));
  parts.push(make("h3", {}, "Figures"));
  const facts = Object.entries({ status: cell.status, seeds: Object.entries(cell.seeds).map(([k, v]) => `${k} ${v}`).join(", "), ...cell.facts });
  parts.push(rowsTable(facts.filter(([, v]) => v !== null).map(([k, v]) => [k, shown(v)])));
  parts.push(make("h3", {}, "Provenance"));
  parts.push(rowsTable(Object.entries(DATA.provenance[cell.provenance]).map(([k, v]) => [k.replaceAll("_", " "), shown(v)])));
  parts.push(make("h3", {}, `End of the log (last ${DATA.log_lines} lines)`));
  parts.push(cell.log ? make("pre", { tabindex: "0" }, cell.log) : make("p", {}, "No log was written."));
  return parts;
}

function fillDrawer(id) {
  const cell = DATA.cells[id];
  byId("drawer-title").textContent = cell.name;
  drawerBody.replaceChildren(...cellParts(cell));
  drawer.scrollTop = 0;
}
function openDrawer(id) {
  const arm = DATA.cells[id].arm;
  const siblings = Object.entries(DATA.cells).filter(([, cell]) => cell.arm === arm);
  drawerCell.replaceChildren(...siblings.map(([key, cell]) => make("option", { value: key }, `seed ${cell.seeds.init} · ${key} · ${cell.status}`)));
  drawerCell.value = id;
  fillDrawer(id);
  drawer.showModal();
}
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-opens]");
  if (button) openDrawer(button.dataset.opens);
  if (event.target === drawer) drawer.close();
});
drawerCell.addEventListener("change", () => fillDrawer(drawerCell.value));
byId("drawer-close").addEventListener("click", () => drawer.close());
