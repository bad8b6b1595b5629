// What is drawn over an image: outlines, boxes, clicks. `at` says where it lies, see `frame` in lens.js.

const POSITIVE = "#39cccc", NEGATIVE = "#f012be", BOX = "#ffdc00";
const FEW = 12;  // clicks; more are a scribble's, and drawn small

/** Outlines as a path. */
export function path(outlines, {across, down, left, top}) {
  const made = new Path2D();
  for (const line of outlines) {
    for (let k = 0; k < line.length; k += 2) made[k ? "lineTo" : "moveTo"](left + line[k] * across, top + line[k + 1] * down);
    made.closePath();
  }
  return made;
}

/** A mask: its outline, filled where `opacity` is above 0. */
export function drawMask(pen, outlines, at, colour, opacity) {
  const outline = path(outlines, at);
  pen.strokeStyle = pen.fillStyle = colour;
  if (opacity) {
    pen.globalAlpha = opacity;
    pen.fill(outline, "evenodd");
    pen.globalAlpha = 1;
  }
  pen.stroke(outline);
}

/** A prompt, with lines of a width. */
export function drawPrompt(pen, {clicks, box}, {across, down, left, top}, line) {
  if (box) {
    const [x0, y0, x1, y1] = box;
    pen.strokeStyle = BOX;
    pen.lineWidth = line;
    pen.setLineDash([4 * line, 2 * line]);
    pen.strokeRect(left + x0 * across, top + y0 * down, (x1 - x0) * across, (y1 - y0) * down);
    pen.setLineDash([]);
  }
  const many = clicks.length > FEW;
  for (const [x, y, label] of clicks) {
    const [column, row, size] = [left + (x + 0.5) * across, top + (y + 0.5) * down, (many ? 1.5 : 3) * line];
    pen.beginPath();
    pen.arc(column, row, size, 0, 2 * Math.PI);
    pen.fillStyle = label ? POSITIVE : NEGATIVE;
    pen.fill();
    pen.lineWidth = line * 0.75;
    pen.strokeStyle = "#fff";
    if (!many) pen.stroke();
    pen.beginPath();  // a plus or a minus: colours alone do not tell
    pen.moveTo(column - size / 2, row);
    pen.lineTo(column + size / 2, row);
    if (label) { pen.moveTo(column, row - size / 2); pen.lineTo(column, row + size / 2); }
    pen.strokeStyle = "#000";
    pen.stroke();
  }
}

/** A box, half-open and in whole pixels, between two places of an image of that size. */
export function boxBetween(one, other, {width, height}) {
  const inside = (value, size) => Math.min(Math.max(value, 0), size);
  const [x, y] = [0, 1].map(axis => [one[axis], other[axis]].map(value => inside(value, axis ? height : width)).sort((a, b) => a - b));
  return [Math.floor(x[0]), Math.floor(y[0]), Math.ceil(x[1]), Math.ceil(y[1])];
}
