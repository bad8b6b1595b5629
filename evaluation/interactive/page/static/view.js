// The picture on the canvas: where it lies, how far it is zoomed, and what is drawn over it.

import {state, prompt, listen} from "./state.js";

const COLOURS = ["#ff4136", "#39a0ff", "#ffdc00", "#f012be", "#ff851b", "#b07cff", "#7fdbff", "#01ff70"];
const REFERENCE = "#2ecc40", POSITIVE = "#39cccc", NEGATIVE = "#f012be", BOX = "#ffdc00";
const MOST_ZOOM = 32;
const SHARP = 4;  // screen pixels of an image's pixel from which its edges are drawn

const stage = document.getElementById("stage");
export const canvas = document.getElementById("canvas");
const pen = canvas.getContext("2d", {willReadFrequently: true});
const view = {zoom: 1, centre: null};  // the centre in pixels of the image; null is the image's own
let rubber = null;  // the box that is being drawn

/** The colour of a method. */
export const colour = name => COLOURS[Math.max(state.methods.findIndex(item => item.name === name), 0) % COLOURS.length];

/** Where the image lies on the canvas, in its own pixels: (x, y) is drawn at (left + x * across, top + y * down). */
function frame() {
  const {width, height, spacing} = state.shown;
  const [tall, wide] = spacing || [1, 1];  // pixels are not square where slices are thick
  const unit = view.zoom * Math.min(canvas.width / (width * wide), canvas.height / (height * tall));
  const across = unit * wide, down = unit * tall;
  const inside = (centre, size, scale, room) =>
    size * scale <= room ? size / 2 : Math.min(Math.max(centre, room / scale / 2), size - room / scale / 2);
  const x = inside(view.centre ? view.centre[0] : width / 2, width, across, canvas.width);
  const y = inside(view.centre ? view.centre[1] : height / 2, height, down, canvas.height);
  return {across, down, left: canvas.width / 2 - x * across, top: canvas.height / 2 - y * down, centre: [x, y]};
}

/** A place of the screen in the image, (0, 0) being its corner; it may lie outside. */
export function inImage(clientX, clientY) {
  const edge = canvas.getBoundingClientRect(), {across, down, left, top} = frame();
  return [((clientX - edge.left) * devicePixelRatio - left) / across, ((clientY - edge.top) * devicePixelRatio - top) / down];
}

/** Where a place in the image lies on the screen. */
export function onScreen(x, y) {
  const edge = canvas.getBoundingClientRect(), {across, down, left, top} = frame();
  return [edge.left + (left + x * across) / devicePixelRatio, edge.top + (top + y * down) / devicePixelRatio];
}

/** Zoom by a factor; what lies under a place of the screen, by default the middle, stays there. */
export function zoom(factor, clientX, clientY) {
  if (!state.shown) return;
  const edge = canvas.getBoundingClientRect();
  const [x, y] = [clientX ?? edge.left + edge.width / 2, clientY ?? edge.top + edge.height / 2];
  const before = inImage(x, y);
  view.centre = frame().centre;
  view.zoom = Math.min(Math.max(view.zoom * factor, 1), MOST_ZOOM);
  const after = inImage(x, y);
  view.centre = view.centre.map((value, axis) => value + before[axis] - after[axis]);
  view.centre = frame().centre;
  draw();
}

/** Move the image by pixels of the screen. */
export function pan(right, below) {
  if (!state.shown) return;
  const {across, down, centre} = frame();
  view.centre = [centre[0] - right * devicePixelRatio / across, centre[1] - below * devicePixelRatio / down];
  view.centre = frame().centre;
  draw();
}

/** The whole image again. */
export function resetView() {
  Object.assign(view, {zoom: 1, centre: null});
  draw();
}

export function setRubber(box) {
  rubber = box;
  draw();
}

/** Outlines as a path, (x, y) at (left + x * across, top + y * down). */
function path(outlines, {across, down, left, top}) {
  const made = new Path2D();
  for (const line of outlines) {
    for (let k = 0; k < line.length; k += 2) made[k ? "lineTo" : "moveTo"](left + line[k] * across, top + line[k + 1] * down);
    made.closePath();
  }
  return made;
}

export function draw() {
  document.getElementById("fit").hidden = view.zoom === 1;
  pen.clearRect(0, 0, canvas.width, canvas.height);
  if (!state.shown) return;
  const at = frame(), line = 2 * devicePixelRatio;
  pen.imageSmoothingEnabled = at.across < SHARP * devicePixelRatio;
  pen.drawImage(state.picture, at.left, at.top, state.shown.width * at.across, state.shown.height * at.down);
  pen.lineWidth = line;
  if (state.reference) {
    pen.strokeStyle = REFERENCE;
    for (const item of state.shown.references) pen.stroke(path(item.outline, at));
  }
  Object.entries(state.answers).filter(([, found]) => !found.error).forEach(([method, found], number) => {
    const outline = path(found.outline, at);
    pen.strokeStyle = pen.fillStyle = colour(method);
    pen.globalAlpha = 0.28;
    if (!number) pen.fill(outline, "evenodd");
    pen.globalAlpha = 1;
    pen.stroke(outline);
  });
  drawPrompt(at, line);
}

function drawPrompt({across, down, left, top}, line) {
  const {clicks, box} = prompt();
  pen.strokeStyle = BOX;
  pen.setLineDash([4 * line, 2 * line]);
  for (const [x0, y0, x1, y1] of [rubber || box].filter(Boolean)) {
    pen.strokeRect(left + x0 * across, top + y0 * down, (x1 - x0) * across, (y1 - y0) * down);
  }
  pen.setLineDash([]);
  for (const [x, y, label] of clicks) {
    const [column, row, size] = [left + (x + 0.5) * across, top + (y + 0.5) * down, 3 * line];
    pen.beginPath();
    pen.arc(column, row, size, 0, 2 * Math.PI);
    pen.fillStyle = label ? POSITIVE : NEGATIVE;
    pen.fill();
    pen.lineWidth = line * 0.75;
    pen.strokeStyle = "#fff";
    pen.stroke();
    pen.beginPath();  // a plus or a minus: colours alone do not tell
    pen.moveTo(column - size / 2, row);
    pen.lineTo(column + size / 2, row);
    if (label) { pen.moveTo(column, row - size / 2); pen.lineTo(column, row + size / 2); }
    pen.strokeStyle = "#000";
    pen.stroke();
  }
}

/** Middle (x, y) and longest side of outlines, the side in units of the screen's proportions. */
function extent(outlines, [tall, wide]) {
  const ends = [0, 1].map(axis => outlines.flat().filter((_, k) => k % 2 === axis)).map(values =>
    values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]));
  return {middle: ends.map(([low, high]) => (low + high) / 2), side: Math.max((ends[0][1] - ends[0][0]) * wide, (ends[1][1] - ends[1][0]) * tall)};
}

/** A small picture of a mask and what lies around it, with no more of the image than the largest needs. */
export function thumbnail(outline, largest, size) {
  const made = document.createElement("canvas"), brush = made.getContext("2d");
  made.width = made.height = size * devicePixelRatio;
  const {width, height, spacing} = state.shown, [tall, wide] = spacing || [1, 1];
  const {middle, side} = extent(outline, [tall, wide]);
  const most = Math.max(Math.min(2.5 * side, 1.2 * extent(largest, [tall, wide]).side), 1.2 * side, 8);
  const across = made.width / most * wide, down = made.height / most * tall;
  const at = {across, down, left: made.width / 2 - middle[0] * across, top: made.height / 2 - middle[1] * down};
  brush.drawImage(state.picture, at.left, at.top, width * across, height * down);
  const drawn = path(outline, at);
  brush.fillStyle = brush.strokeStyle = colour(state.methods[0].name);
  brush.globalAlpha = 0.4;
  brush.fill(drawn, "evenodd");
  brush.globalAlpha = 1;
  brush.lineWidth = 1.5 * devicePixelRatio;
  brush.stroke(drawn);
  return made;
}

function resize() {
  canvas.width = Math.max(Math.round(stage.clientWidth * devicePixelRatio), 1);
  canvas.height = Math.max(Math.round(stage.clientHeight * devicePixelRatio), 1);
  draw();
}

new ResizeObserver(resize).observe(stage);
listen(draw);
