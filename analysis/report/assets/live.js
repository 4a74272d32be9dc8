"use strict";
// Served by `watch`: reload when the runs have changed, but never under an open drawer.
const live = byId("live");
let version = null;
async function ask() {
  try {
    const answer = await (await fetch("/version", { cache: "no-store" })).json();
    live.textContent = ` · live, ${answer.sentence}`;
    if (version !== null && answer.version !== version && !drawer.open) location.reload();
    if (version === null) version = answer.version;
  } catch { live.textContent = " · the server has stopped; this is the last state"; }
}
ask();
setInterval(ask, 5000);
