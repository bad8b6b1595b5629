// The picture on the canvas: where it lies, how far it is zoomed, and what is drawn over it.

import {drawMask, drawPrompt, path} from "./drawing.js";
import {makeLens} from "./lens.js";
import {state, prompt, listen} from "./state.js";

const COLOURS = ["#ff4136", "#39a0ff", "#ffdc00", "#f012be", "#ff851b", "#b07cff", "#7fdbff", "#01ff70"];
const REFERENCE = "#2ecc40";
const SHARP = 4;  // screen pixels of an image's pixel from which its edges are drawn

export const canvas = document.getElementById("canvas");
const pen = canvas.getContext("2d", {willReadFrequently: true});
const lens = makeLens(canvas, () => state.shown, draw);
export const {inImage, onScreen, zoom, pan, reset: resetView} = lens;
let rubber = null;  // the box that is being drawn

/** The colour of a method. */
export const colour = name => COLOURS[Math.max(state.methods.findIndex(item => item.name === name), 0) % COLOURS.length];

export function setRubber(box) {
  rubber = box;
  draw();
}

export function draw() {
  document.getElementById("fit").hidden = lens.isWhole();
  pen.clearRect(0, 0, canvas.width, canvas.height);
  if (!state.shown) return;
  const at = lens.frame(), line = 2 * devicePixelRatio;
  pen.imageSmoothingEnabled = at.across < SHARP * devicePixelRatio;
  pen.drawImage(state.picture, at.left, at.top, state.shown.width * at.across, state.shown.height * at.down);
  pen.lineWidth = line;
  if (state.reference) {
    pen.strokeStyle = REFERENCE;
    for (const item of state.shown.references) pen.stroke(path(item.outline, at));
  }
  Object.entries(state.answers).filter(([, found]) => !found.error).forEach(([method, found], number) => {
    drawMask(pen, found.outline, at, colour(method), number ? 0 : 0.28);
  });
  const {clicks, box} = prompt();
  drawPrompt(pen, {clicks, box: rubber || box}, at, line);
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
  brush.lineWidth = 1.5 * devicePixelRatio;
  drawMask(brush, outline, at, colour(state.methods[0].name), 0.4);
  return made;
}

lens.fill(document.getElementById("stage"));
listen(draw);
