"use strict";
// One text, two arms: each token coloured by the difference of its losses. Tokens are text nodes.
const tokenText = byId("token-text"), tokenArm = byId("token-arm"), tokenBase = byId("token-base");
const STEPS = [0.1, 0.3, 1];  // nats, where the next darker colour begins
const LARGEST = 10, BEFORE = 24;
const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;
const visible = (token, after) => token.replaceAll("\n", `↵${after}`);
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

function tokenClass(difference) {
  const level = STEPS.filter((step) => Math.abs(difference) >= step).length;
  return level ? `${difference < 0 ? "lower" : "higher"} by${level}` : "";
}

function tokenSpan(token, mine, theirs) {
  const title = `${JSON.stringify(token)}: ${mine.toFixed(3)} against ${theirs.toFixed(3)}, ${signed(mine - theirs)} nats`;
  return make("span", { class: tokenClass(mine - theirs), title }, visible(token, "\n"));
}

function largestRows(text, mine, theirs) {
  const order = mine.map((value, i) => [Math.abs(value - theirs[i]), i]).sort((a, b) => b[0] - a[0] || a[1] - b[1]);
  return order.slice(0, LARGEST).map(([, i]) => {
    const before = visible(text.tokens.slice(Math.max(0, i - BEFORE), i).join("").slice(-BEFORE), "");
    const figures = [mine[i].toFixed(3), theirs[i].toFixed(3), signed(mine[i] - theirs[i])];
    return make("tr", {}, make("td", { class: "behind" }, before), make("th", { scope: "row" }, JSON.stringify(text.tokens[i])),
      ...figures.map((figure) => make("td", { class: "num" }, figure)));
  });
}

function showTokens() {
  const text = DATA.texts[tokenText.selectedIndex], mine = text.nats[tokenArm.value], theirs = text.nats[tokenBase.value];
  byId("token-shown").replaceChildren(...text.tokens.map((token, i) => tokenSpan(token, mine[i], theirs[i])));
  const runs = (name) => (text.n_runs[name] > 1 ? ` (mean of ${text.n_runs[name]} runs)` : "");
  byId("token-said").textContent = `Nats per token on this text: ${tokenArm.value} ${mean(mine).toFixed(3)}${runs(tokenArm.value)}, `
    + `${tokenBase.value} ${mean(theirs).toFixed(3)}${runs(tokenBase.value)}, difference ${signed(mean(mine) - mean(theirs))}.`;
  const heads = ["behind", "token", tokenArm.value, tokenBase.value, "difference"];
  byId("token-largest").replaceChildren(
    make("caption", {}, "The largest differences"),
    make("thead", {}, make("tr", {}, ...heads.map((head, i) => make("th", { scope: "col", class: i > 1 ? "num" : "" }, head)))),
    make("tbody", {}, ...largestRows(text, mine, theirs)));
}

function namesOf(text) {
  const known = DATA.arms.filter((name) => name in text.nats);
  return [...known, ...Object.keys(text.nats).filter((name) => !known.includes(name))];
}
function textChanged() {
  const names = namesOf(DATA.texts[tokenText.selectedIndex]), chosen = [tokenArm.value, tokenBase.value];
  [tokenArm, tokenBase].forEach((select, side) => {
    select.replaceChildren(...names.map((name) => make("option", { value: name }, name)));
    select.value = names.includes(chosen[side]) ? chosen[side] : names[1 - side];
  });
  showTokens();
}
if (tokenText) {
  tokenText.append(...DATA.texts.map((_, i) => make("option", { value: String(i) }, `${i + 1} of ${DATA.texts.length}`)));
  const keys = STEPS.map((step) => [step, `by ${step} nats or more`]);
  byId("token-legend").append(
    "The arm's loss is lower ", ...keys.flatMap(([step, words]) => [make("span", { class: tokenClass(-step) }, words), " "]),
    "· higher ", ...keys.flatMap(([step, words]) => [make("span", { class: tokenClass(step) }, words), " "]));
  tokenText.addEventListener("change", textChanged);
  for (const select of [tokenArm, tokenBase]) select.addEventListener("change", showTokens);
  textChanged();
}
