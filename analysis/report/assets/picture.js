"use strict";
// The effects, the table of verdicts and their caption as one PNG: drawn here, nothing is fetched.
const PICTURE = { width: 1080, edge: 32, row: 27, scale: 2 };
const pictureButton = byId("picture");
const pen = document.createElement("canvas").getContext("2d");

function svgNode(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function wrapped(text, size) {
  pen.font = `${size}px ${chartConfig(false).font}`;
  const lines = [""];
  for (const word of text.split(/\s+/)) {
    const longer = `${lines.at(-1)} ${word}`.trim();
    if (pen.measureText(longer).width <= PICTURE.width - 2 * PICTURE.edge) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

function paragraph(text, y, size, look) {
  const lines = wrapped(text, size), step = size * 1.4;
  const spans = lines.map((line, i) => svgNode("tspan", { x: PICTURE.edge, y: y + size + i * step }, line));
  return [svgNode("text", { "font-size": size, fill: "var(--ink)", ...look }, ...spans), y + lines.length * step];
}

function columnPlaces(rows, right) {
  pen.font = `600 13px ${chartConfig(false).font}`;
  const widths = right.map((_, i) => Math.max(...rows.map((row) => pen.measureText(row[i]).width)));
  const room = PICTURE.width - 2 * PICTURE.edge;
  while (widths.length > 4 && widths.reduce((sum, w) => sum + w + 18, 0) > room) widths.pop();
  const gap = (room - widths.reduce((sum, w) => sum + w, 0)) / (widths.length - 1);
  let x = PICTURE.edge;
  return widths.map((w, i) => { const place = right[i] ? x + w : x; x += w + gap; return place; });
}

function tableNodes(y) {
  const sheet = document.querySelector(".sheet[data-name=verdicts]"), body = shownRows(sheet);
  const heads = [...sheet.querySelectorAll("thead th")], right = heads.map((th) => th.classList.contains("num"));
  const rows = [textsOf(sheet.querySelector("thead tr")), ...body.map(textsOf)];
  const places = columnPlaces(rows, right), nodes = [];
  rows.forEach((row, r) => {
    const base = y + (r + 1) * PICTURE.row;
    nodes.push(svgNode("path", { d: `M${PICTURE.edge},${base + 8}H${PICTURE.width - PICTURE.edge}`, stroke: "var(--line)" }));
    places.forEach((x, i) => {
      const pill = r && body[r - 1].cells[i].querySelector(".pill");
      const colour = pill ? getComputedStyle(pill).color : r ? "var(--ink)" : "var(--muted)";
      const look = { x, y: base, "font-size": 13, fill: colour, "text-anchor": right[i] ? "end" : "start" };
      if (!r || !i || pill) look["font-weight"] = 600;
      nodes.push(svgNode("text", look, row[i]));
    });
  });
  return [nodes, y + (rows.length + 0.5) * PICTURE.row];
}

async function effectsNode() {
  const plot = make("div", { class: "plot" });
  const stage = make("figure", { class: "stage", "data-chart": "effects" }, plot);
  stage.style.width = `${PICTURE.width - 2 * PICTURE.edge}px`;
  document.body.append(stage);
  await draw(stage, viewOf(document.querySelector("#effects figure")));
  const drawn = plot.querySelector("svg");
  stage.view.finalize();
  stage.remove();
  return drawn;
}

async function pictureSvg() {
  const nodes = [], chart = await effectsNode();
  let y = PICTURE.edge;
  const write = (text, size, look) => { const [node, end] = paragraph(text, y, size, look); nodes.push(node); y = end; };
  write(byId("headline").textContent, 22, { "font-weight": 700 });
  chart.setAttribute("x", PICTURE.edge);
  chart.setAttribute("y", y += 12);
  y += Number(chart.getAttribute("height")) + 4;
  const [table, end] = tableNodes(y);
  nodes.push(chart, ...table);
  y = end + 6;
  for (const line of [...DATA.charts.effects.key, ...DATA.picture]) { write(line, 12, { fill: "var(--muted)" }); y += 3; }
  const size = { width: PICTURE.width, height: Math.ceil(y + PICTURE.edge - 8) };
  const ground = svgNode("rect", { ...size, fill: "var(--card)" });
  return svgNode("svg", { ...size, "font-family": chartConfig(false).font }, ground, ...nodes);
}

async function picturePng() {
  const svg = await pictureSvg(), style = getComputedStyle(root);
  const text = new XMLSerializer().serializeToString(svg)
    .replace(/var\(--(\w+)\)/g, (_, name) => style.getPropertyValue(`--${name}`));
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  await image.decode();
  const canvas = make("canvas");
  canvas.width = PICTURE.scale * svg.getAttribute("width");
  canvas.height = PICTURE.scale * svg.getAttribute("height");
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((done, fail) => canvas.toBlob((blob) => (blob ? done(blob) : fail(new Error("too large"))), "image/png"));
}

function save(blob) {
  const link = make("a", { href: URL.createObjectURL(blob), download: `${document.querySelector(".brand").textContent}.png` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

async function copyPicture() {
  const png = picturePng();  // given as a promise: a browser that waited for it would no longer allow copying
  try {
    await navigator.clipboard.write([new ClipboardItem({ "image/png": png })]);
    return answer(pictureButton, "Copied", "The picture is in the clipboard.");
  } catch { /* not allowed here: saved below */ }
  try {
    save(await png);
    answer(pictureButton, "Saved", "The picture is saved as a file.");
  } catch { answer(pictureButton, "Not possible here", "The browser could not draw the picture."); }
}
if (pictureButton) pictureButton.addEventListener("click", copyPicture);
