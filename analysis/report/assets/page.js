"use strict";
// Theme, what a phone folds away, tables: sorting, filtering, copying.
const root = document.documentElement, themeButton = byId("theme");
function setTheme(name) {
  root.dataset.theme = name;
  themeButton.textContent = name === "dark" ? "Light" : "Dark";
  themeButton.setAttribute("aria-label", `Switch to the ${name === "dark" ? "light" : "dark"} theme`);
  themeButton.setAttribute("aria-pressed", String(name === "dark"));
}
function remembered() { try { return localStorage.getItem("report-theme"); } catch { return null; } }
setTheme(remembered() || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
themeButton.addEventListener("click", () => {
  const name = root.dataset.theme === "dark" ? "light" : "dark";
  setTheme(name);
  try { localStorage.setItem("report-theme", name); } catch { /* a private window forgets */ }
});
const smallScreen = matchMedia("screen and (max-width: 720px)"), setting = byId("setting");  // print has all
const fold = () => { setting.open = !smallScreen.matches; };
fold();
smallScreen.addEventListener("change", fold);
let before = null;
addEventListener("beforeprint", () => { before = root.dataset.theme; setTheme("light"); setting.open = true; });
addEventListener("afterprint", () => { if (before) setTheme(before); fold(); });

const say = (text) => { byId("said").textContent = text; };

function compareCells(a, b) {
  if (a === "" || b === "") return a === b ? 0 : a === "" ? 1 : -1;
  const x = Number(a), y = Number(b);
  return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
}
const sortKey = (value) => (value === "inf" ? "Infinity" : value);

function sortBy(table, header) {
  const at = [...header.parentNode.children].indexOf(header);
  const up = header.getAttribute("aria-sort") !== "ascending";
  for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", up ? "ascending" : "descending");
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [sortKey(row.cells[at].dataset.v), row]);
  rows.sort(([a], [b]) => (a === "" || b === "" || up ? 1 : -1) * compareCells(a, b));
  body.append(...rows.map(([, row]) => row));
}

function filterRows(sheet, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  const rows = [...sheet.querySelector("tbody").rows];
  for (const row of rows) {
    const content = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => content.includes(word));
    shown += !row.hidden;
  }
  sheet.querySelector(".shown").textContent = words.length ? `${shown} of ${rows.length} rows` : "";
}

const textsOf = (row) => [...row.cells].map((cell) => {
  const pill = cell.querySelector(".pill");
  return (pill ? pill.lastChild.textContent : cell.textContent).replace(/\s+/g, " ").trim();
});
const shownRows = (sheet) => [...sheet.querySelector("tbody").rows].filter((row) => !row.hidden);

function tableText(sheet, format) {
  const head = textsOf(sheet.querySelector("thead tr"));
  const rows = shownRows(sheet).map(textsOf);
  if (format === "csv")
    return [head, ...rows].map((row) => row.map((t) => (/[",]/.test(t) ? `"${t.replaceAll('"', '""')}"` : t)).join(",")).join("\n") + "\n";
  const right = [...sheet.querySelectorAll("thead th")].map((th) => th.classList.contains("num"));
  const line = (row) => `| ${row.map((t) => t.replaceAll("|", "\\|")).join(" | ")} |`;
  const notes = [...sheet.querySelectorAll(".note")].map((note) => `\n${note.textContent}`);
  return [line(head), line(right.map((r) => (r ? "--:" : "---"))), ...rows.map(line), ...notes].join("\n") + "\n";
}

async function copy(text) {
  try { await navigator.clipboard.writeText(text); return true; } catch { /* older way below */ }
  const area = make("textarea", { class: "hidden" });
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

function answer(button, text, said) {
  const label = button.dataset.label ||= button.textContent;
  button.textContent = text;
  say(said);
  setTimeout(() => { button.textContent = label; }, 1500);
}

for (const sheet of document.querySelectorAll(".sheet")) {
  const table = sheet.querySelector("table");
  for (const header of table.tHead.rows[0].cells)
    header.firstElementChild.addEventListener("click", () => sortBy(table, header));
  const find = sheet.querySelector("input[type=search]");
  if (find) find.addEventListener("input", () => filterRows(sheet, find.value));
  for (const button of sheet.querySelectorAll(".copy"))
    button.addEventListener("click", async () => {
      const done = await copy(tableText(sheet, button.dataset.format));
      if (done) answer(button, "Copied", "The table is in the clipboard.");
      else answer(button, "Not allowed here", "The browser did not allow copying.");
    });
}
