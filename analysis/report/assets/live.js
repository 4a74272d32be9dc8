"use strict";
// Served by `watch`: reload when the runs have changed, but never under an open drawer. What the
// reader has set (filters, orders, choices) outlives the reload.
const live = byId("live"), KEPT = "report-kept";
const controls = () => [...document.querySelectorAll("main input, main select")];
const isTicked = (control) => ["checkbox", "radio"].includes(control.type);
function placeOf(control) {
  const at = control.closest("[data-name], [data-side]");
  const own = [control.id, control.name, control.className, isTicked(control) && control.value];
  return [at && (at.dataset.name || at.dataset.side), ...own].join("|");
}

function keep() {
  const set = controls().filter((c) => c.type !== "range" || c.value !== c.max);  // the end moves on
  const orders = [...document.querySelectorAll(".sheet th[aria-sort]")].map((header) =>
    [header.closest(".sheet").dataset.name, header.textContent, header.getAttribute("aria-sort")]);
  const values = set.map((c) => [placeOf(c), isTicked(c) ? c.checked : c.value]);
  sessionStorage.setItem(KEPT, JSON.stringify({ orders, values, top: scrollY }));
}

function bringBack() {
  const { orders, values, top } = JSON.parse(sessionStorage.getItem(KEPT) || '{"orders":[],"values":[]}');
  sessionStorage.removeItem(KEPT);
  const kept = new Map(values);
  for (const unticked of [true, false])  // first: only so many curves are shown at once
    for (const control of controls()) {
      const value = kept.get(placeOf(control)), property = isTicked(control) ? "checked" : "value";
      if (value === undefined || control[property] === value || (value === false) !== unticked) continue;
      control[property] = value;
      for (const kind of ["input", "change"]) control.dispatchEvent(new Event(kind, { bubbles: true }));
    }
  for (const [name, heading, order] of orders) {
    const header = [...document.querySelectorAll(`.sheet[data-name="${name}"] th[scope=col]`)].find((h) => h.textContent === heading);
    while (header && header.getAttribute("aria-sort") !== order) header.firstElementChild.click();
  }
  if (top) scrollTo({ top, behavior: "instant" });
}

let version = null;
async function ask() {
  try {
    const answer = await (await fetch("/version", { cache: "no-store" })).json();
    live.textContent = ` · live, ${answer.sentence}`;
    if (version !== null && answer.version !== version && !drawer.open) { keep(); location.reload(); }
    if (version === null) version = answer.version;
  } catch { live.textContent = " · the server has stopped; this is the last state"; }
}
addEventListener("DOMContentLoaded", bringBack);
ask();
setInterval(ask, 5000);
