// The three planes of a scan on their canvases: the one that is drawn on, large, and two cuts through it.

import {drawMask, drawPrompt} from "./drawing.js";
import {makeLens} from "./lens.js";
import {PLANES, amount, count, isOpen, listen, number, scan, sizeOf, toPixel, toVoxel} from "./scan.js";
import {codesOf, onArrival, paint, valueAt} from "./slices.js";

const SHARP = 4;  // screen pixels of an image's pixel from which its edges are drawn
const CROSS = "rgb(120 220 255 / .6)", GAP = 9, INK = "rgb(255 255 255 / .78)";
const LETTERS = [["R", "L", "A", "P"], ["R", "L", "S", "I"], ["A", "P", "S", "I"]];  // left, right, top, bottom
const LINE = 2, OPACITY = 0.3;

const $ = id => document.getElementById(id);

function makePane(role, canvas) {
  const pane = {
    role, canvas,
    pen: canvas.getContext("2d", {willReadFrequently: true}),
    picture: document.createElement("canvas"), painted: null,  // what slice and window the picture is of
    plane: () => role === 0 ? scan.info.own : [0, 1, 2].filter(plane => plane !== scan.info.own)[role - 1],
  };
  pane.lens = makeLens(canvas, () => isOpen() ? sizeOf(pane.plane()) : null, () => drawPane(pane));
  return pane;
}

export const panes = ["main", "first", "second"].map((name, role) => makePane(role, $(`${name}-plane`)));
export const main = panes[0];
const sketch = {box: null, stroke: null, at: null};  // what is being drawn: a box, {points, erase, radius} or the brush's place

/** Show what is being drawn. */
export function setSketch(changes) {
  Object.assign(sketch, changes);
  drawPane(main);
}

/** The colour of the object of a name. */
export function colourOf(name) {
  const index = scan.seen?.objects.findIndex(item => item.name === name) ?? -1, {colours} = scan.info;
  return `rgb(${colours[(index < 0 ? scan.seen?.objects.length ?? 0 : index) % colours.length].join(" ")})`;
}

/** Where a pixel's centre of a pane lies on the screen. */
export const onPane = (role, x, y) => panes[role].lens.onScreen(x + 0.5, y + 0.5);

function drawPane(pane) {
  const {canvas, pen, lens} = pane;
  pen.clearRect(0, 0, canvas.width, canvas.height);
  if (!isOpen()) return;
  const plane = pane.plane(), at = scan.place[plane], size = sizeOf(plane);
  const codes = codesOf(plane, at), wanted = [scan.id, plane, at, ...scan.levels].join("|");
  if (codes && pane.painted !== wanted) {
    paint(pane.picture, plane, codes);
    pane.painted = wanted;
  }
  pane.codes = codes;
  const where = lens.frame(), line = LINE * devicePixelRatio;
  pen.imageSmoothingEnabled = where.across < SHARP * devicePixelRatio;
  if (pane.painted?.startsWith(`${scan.id}|${plane}|`)) pen.drawImage(pane.picture, where.left, where.top, size.width * where.across, size.height * where.down);
  if (!scan.hidden && scan.seen?.place[plane] === at) drawObjects(pane, plane, where, line);
  if (pane === main) drawSketch(where, line);
  drawCross(pane, plane, where);
  drawLetters(pane, plane);
}

function drawObjects(pane, plane, where, line) {
  for (const item of scan.seen.objects) {
    const isActive = item.name === scan.active;
    pane.pen.lineWidth = (pane === main && isActive ? 1 : 0.7) * line;
    drawMask(pane.pen, item.outlines[plane], where, colourOf(item.name), isActive ? OPACITY : OPACITY / 2);
    if (pane === main && isActive) drawPrompt(pane.pen, item.prompt, where, line);
  }
}

function drawSketch(where, line) {
  const {pen} = main;
  for (const item of scan.pending) if (item.at === number()) drawPrompt(pen, item, where, line);
  if (sketch.box) drawPrompt(pen, {clicks: [], box: sketch.box}, where, line);
  const brushes = scan.tool === "brush" || scan.tool === "eraser";
  if (sketch.stroke) {
    const {points, radius, erase} = sketch.stroke;
    pen.save();
    pen.setTransform(where.across, 0, 0, where.down, where.left + where.across / 2, where.top + where.down / 2);
    Object.assign(pen, {lineCap: "round", lineJoin: "round", lineWidth: 2 * radius, globalAlpha: 0.5});
    pen.strokeStyle = erase ? "#fff" : colourOf(scan.active);
    pen.beginPath();
    points.forEach(([x, y], k) => pen[k ? "lineTo" : "moveTo"](x, y));
    if (points.length === 1) pen.lineTo(points[0][0] + 1e-3, points[0][1]);
    pen.stroke();
    pen.restore();
  }
  if (sketch.at && brushes) {
    const [x, y] = sketch.at;
    pen.beginPath();
    pen.ellipse(where.left + x * where.across, where.top + y * where.down, scan.radius * where.across, scan.radius * where.down, 0, 0, 2 * Math.PI);
    pen.lineWidth = line / 2;
    pen.strokeStyle = INK;
    pen.stroke();
  }
}

/** Where the other two planes meet this one; in the middle it leaves the image free. */
function drawCross({pen, canvas}, plane, where) {
  const [x, y] = toPixel(plane, scan.place), gap = GAP * devicePixelRatio;
  const column = Math.round(where.left + (x + 0.5) * where.across) + 0.5, row = Math.round(where.top + (y + 0.5) * where.down) + 0.5;
  pen.beginPath();
  for (const [from, to] of [[0, column - gap], [column + gap, canvas.width]]) { pen.moveTo(from, row); pen.lineTo(Math.max(to, from), row); }
  for (const [from, to] of [[0, row - gap], [row + gap, canvas.height]]) { pen.moveTo(column, from); pen.lineTo(column, Math.max(to, from)); }
  pen.strokeStyle = CROSS;
  pen.lineWidth = devicePixelRatio;
  pen.stroke();
}

function drawLetters({pen, canvas, role}, plane) {
  const {width, height} = canvas, edge = 6 * devicePixelRatio;
  pen.font = `${(role ? 11 : 13) * devicePixelRatio}px system-ui, sans-serif`;
  pen.fillStyle = INK;
  pen.shadowColor = "#000";
  pen.shadowBlur = 3 * devicePixelRatio;
  const write = (text, x, y, align, baseline) => {
    Object.assign(pen, {textAlign: align, textBaseline: baseline});
    pen.fillText(text, x, y);
  };
  const title = scan.info.upright ? PLANES[plane] : ["z", "y", "x"][plane];
  write(`${title} ${scan.place[plane]} / ${scan.info.shape[plane] - 1}`, edge, edge, "left", "top");
  if (scan.info.upright) {
    const [left, right, top, bottom] = LETTERS[plane];
    write(left, edge, height / 2, "left", "middle");
    write(right, width - edge, height / 2, "right", "middle");
    write(top, width / 2, edge, "center", "top");
    write(bottom, width / 2, height - edge, "center", "bottom");
  }
  pen.shadowBlur = 0;
}

/** Say which voxel lies at a pixel of a pane, and its value. */
export function readOut(pane, place) {
  const plane = pane.plane(), [x, y] = toPixel(plane, place), {width} = sizeOf(plane);
  const value = pane.codes ? valueAt(pane.codes, y * width + x) : null;
  const shown = value === null ? "" : ` · ${Number.isInteger(value) ? value : value.toPrecision(4)}${scan.info.ct ? " HU" : ""}`;
  $("readout").textContent = `voxel ${toVoxel(place).join(", ")}${shown}`;
}

/** A canvas says what is on it to those who do not see it. */
function describe() {
  const {own} = scan.info, item = scan.seen?.objects.find(one => one.name === scan.active);
  const here = item ? `${item.name}, ${amount(item)}${item.slices.includes(number()) ? "" : ", not in this slice"}` : "no object";
  main.canvas.setAttribute("aria-label", `${PLANES[own]} slice ${number()} of 0 to ${count() - 1}. ${here}. ` +
    "Arrows up and down change the slice, with Shift they move the cross, the space bar draws there.");
  for (const pane of panes.slice(1)) pane.canvas.setAttribute("aria-label", `${PLANES[pane.plane()]} slice ${scan.place[pane.plane()]}. A click moves the cross.`);
}

let toldOf = null;  // the scan that the read-out is of
export const drawAll = () => panes.forEach(drawPane);
for (const pane of panes) pane.lens.fill(pane.canvas.parentElement);
onArrival(drawAll);
listen(() => {
  if (!isOpen()) return;
  if (toldOf !== scan.id) { toldOf = scan.id; $("readout").textContent = ""; }
  drawAll();
  describe();
});
