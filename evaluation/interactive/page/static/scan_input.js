// What the mouse, a finger and the keyboard do in a scan.

import {boxBetween} from "./drawing.js";
import * as data from "./scan.js";
import {scan} from "./scan.js";
import {drawAll, main, panes, readOut, setSketch} from "./scan_view.js";
import {cancel, chooseObject, askName, addObject, removeObject, lockObject, showSaving, openMask, chooseWindow} from "./scan_panel.js";
import {say, guarded} from "./status.js";

const DRAG = 4;  // pixels of the screen before a click becomes a drag
const ZOOM = 1.25, PAGE = 10;
const MOST_RADIUS = 60;
const MOST_STROKE = 4000;  // places, as actions.py takes them

const $ = id => document.getElementById(id);
let drag = null, isSpace = false, hasPanned = false;
let keyed = null;  // what is drawn with the keys: {kind, points}

const drawn = guarded(data.draw);
const size = () => data.sizeOf(scan.info.own);

// ---- tools -------------------------------------------------------------------------------------------------

/** What is done at a place of the image, the tool's or its opposite. */
function finish(kind, points, isOpposite) {
  const {width, height} = size(), isInside = ([x, y]) => x >= 0 && y >= 0 && x < width && y < height;
  const pixels = points.map(([x, y]) => [Math.floor(x), Math.floor(y)]);
  if (kind === "box") {
    const box = boxBetween(points[0], points.at(-1), size());
    if (box[2] > box[0] && box[3] > box[1]) drawn("box", {box}, {box});
  } else if (kind === "click" || kind === "background") {
    if (!isInside(points[0])) return;
    const label = (kind === "click") !== isOpposite ? 1 : 0;
    drawn("click", {points: [pixels[0]], label}, {clicks: [[...pixels[0], label]]});
  } else if (kind === "scribble") {
    const inside = pixels.filter(isInside), label = isOpposite ? 0 : 1;
    if (inside.length) drawn("click", {points: inside, label, scribble: true}, {clicks: [[...inside[0], label], [...inside.at(-1), label]]});
  } else if (points.some(isInside)) {
    drawn("brush", {points: points.map(([x, y]) => [x - 0.5, y - 0.5]), radius: scan.radius, erase: (kind === "eraser") !== isOpposite});
  }
}

function sketchOf(kind, points, isOpposite) {
  if (kind === "box") return {box: boxBetween(points[0], points.at(-1), size())};
  if (kind === "scribble") return {stroke: {points: points.map(([x, y]) => [x - 0.5, y - 0.5]), radius: 0.8, erase: isOpposite}};
  if (kind === "brush" || kind === "eraser") return {stroke: {points: points.map(([x, y]) => [x - 0.5, y - 0.5]), radius: scan.radius, erase: (kind === "eraser") !== isOpposite}};
  return {};
}

const NOTHING = {box: null, stroke: null};

function chooseTool(tool) {
  scan.tool = tool;
  document.querySelector(`#scan-tools input[value=${tool}]`).checked = true;
  abort();
  data.changed();
}

/** Leave what is being drawn; returns whether there was something. */
function abort() {
  const was = Boolean(drag || keyed);
  drag = keyed = null;
  setSketch(NOTHING);
  return was;
}

function setRadius(radius) {
  scan.radius = Math.min(Math.max(radius, 1), MOST_RADIUS);
  $("radius").value = scan.radius;
  $("radius-number").textContent = `${scan.radius} px`;
  drawAll();
}

// ---- mouse -------------------------------------------------------------------------------------------------

function kindOf(event, pane) {
  if (event.button === 1 || isSpace || (event.button === 0 && scan.tool === "move")) return "move";
  if (event.button === 2) return "window";  // dragged; a click is on the background
  if (pane !== main || event.altKey) return "cross";
  return scan.tool;
}

/** Grey values by a drag: to the right wider, down higher. */
function windowed([low, high], right, below) {
  const width = high - low, speed = Math.max(width, 1e-6) / 256;
  const wider = Math.max(width + right * speed, width / 100), level = (low + high) / 2 + below * speed;
  return [level - wider / 2, level + wider / 2];
}

for (const pane of panes) {
  const {canvas, lens} = pane;
  const point = event => lens.inImage(event.clientX, event.clientY);
  canvas.addEventListener("pointerdown", event => {
    if (!data.isOpen() || event.button > 2) return;
    abort();
    canvas.setPointerCapture(event.pointerId);
    drag = {
      pane, kind: kindOf(event, pane), button: event.button, isOpposite: event.shiftKey, points: [point(event)],
      start: [event.clientX, event.clientY], last: [event.clientX, event.clientY], levels: scan.levels, isDrag: false,
    };
    if (drag.kind === "cross") data.go(data.toPlace(pane.plane(), drag.points[0]));
    else setSketch(sketchOf(drag.kind === "box" ? "" : drag.kind, drag.points, drag.isOpposite));
  });
  canvas.addEventListener("pointermove", event => {
    if (!data.isOpen()) return;
    const at = point(event), plane = pane.plane(), {width, height} = data.sizeOf(plane);
    if (at[0] >= 0 && at[1] >= 0 && at[0] < width && at[1] < height) readOut(pane, data.toPlace(plane, at));
    if (pane === main) setSketch({at});
    if (!drag || drag.pane !== pane) return;
    drag.isDrag ||= Math.hypot(event.clientX - drag.start[0], event.clientY - drag.start[1]) >= DRAG;
    if (drag.kind === "move") {
      hasPanned = true;
      lens.pan(event.clientX - drag.last[0], event.clientY - drag.last[1]);
      drag.last = [event.clientX, event.clientY];
    } else if (drag.kind === "cross") data.go(data.toPlace(plane, at));
    else if (drag.isDrag && drag.kind === "window") data.setLevels(windowed(drag.levels, event.clientX - drag.start[0], event.clientY - drag.start[1]));
    else if (drag.kind === "box" || drag.kind === "click") {
      if (drag.isDrag && !drag.isOpposite) { drag.kind = "box"; drag.points[1] = at; setSketch(sketchOf("box", drag.points)); }
    } else if (drag.isDrag && drag.points.length < MOST_STROKE) {
      drag.points.push(at);
      setSketch(sketchOf(drag.kind, drag.points, drag.isOpposite));
    }
  });
  canvas.addEventListener("pointerup", () => {
    const done = drag;
    drag = null;
    setSketch(NOTHING);
    if (!done || done.pane !== pane || done.kind === "move" || done.kind === "cross") return;
    if (done.kind === "window") {
      if (!done.isDrag && done.button === 2 && pane === main) finish("background", done.points, false);
    } else if (done.kind !== "box" || done.points.length > 1) {
      data.go(data.toPlace(pane.plane(), done.kind === "box" ? middle(done.points) : done.points.at(-1)));
      finish(done.kind, done.points, done.isOpposite);
    }
  });
  canvas.addEventListener("pointercancel", abort);
  canvas.addEventListener("pointerleave", () => {
    $("readout").textContent = "";
    if (pane === main) setSketch({at: null});
  });
  canvas.addEventListener("mousedown", event => { if (event.button === 1) event.preventDefault(); });  // no scrolling by itself
  canvas.addEventListener("contextmenu", event => event.preventDefault());
  canvas.addEventListener("wheel", event => {
    if (!data.isOpen()) return;
    event.preventDefault();
    if (event.ctrlKey || event.metaKey) lens.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.002)), event.clientX, event.clientY);
    else data.step(pane.plane(), Math.sign(event.deltaY));
  }, {passive: false});
}

const middle = points => [0, 1].map(axis => (points[0][axis] + points.at(-1)[axis]) / 2);

// ---- keyboard ----------------------------------------------------------------------------------------------

const TOOLS = {c: "click", x: "background", b: "box", s: "scribble", p: "brush", e: "eraser", w: "window", m: "move"};
const ARROWS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
const own = () => scan.info.own;
const undo = guarded(() => { abort(); return data.travel("undo"); }), redo = guarded(() => { abort(); return data.travel("redo"); });

const KEYS = {
  "+": () => main.lens.zoom(ZOOM), "=": () => main.lens.zoom(ZOOM), "-": () => main.lens.zoom(1 / ZOOM),
  "0": () => panes.forEach(pane => pane.lens.reset()),
  "[": () => setRadius(scan.radius - 1), "]": () => setRadius(scan.radius + 1),
  "?": () => $("scan-help").showModal(),
  n: () => addObject(), F2: () => askName(scan.active), l: () => lockObject(scan.active), Delete: () => removeObject(scan.active),
  Enter: guarded(data.propagate), o: () => openMask(),
  a: () => { scan.auto = !scan.auto; data.changed(); },
  h: () => { scan.hidden = !scan.hidden; say(scan.hidden ? "masks are hidden (H shows them)" : ""); data.changed(); },
  PageUp: () => data.step(own(), PAGE), PageDown: () => data.step(own(), -PAGE),
  Home: () => data.step(own(), -data.count()), End: () => data.step(own(), data.count()),
};

const clear = guarded(() => scan.active && data.act("do/clear", {object: scan.active}));

function escape() {
  if (abort()) return;
  if (data.isRunning()) cancel();
  else clear();
}

/** Where the keys draw: the middle of the cross's pixel. */
const cross = () => data.toPixel(own(), scan.place).map(value => value + 0.5);

/** Draw with the keys: a click at once, anything else from here until the key is pressed again. */
function press(isOpposite) {
  const kind = scan.tool;
  if (kind === "window" || kind === "move") return;
  if (kind === "click" || kind === "background") finish(kind, [cross()], isOpposite);
  else if (!keyed) {
    keyed = {kind, isOpposite, points: [cross()]};
    setSketch(sketchOf(kind, keyed.points, isOpposite));
  } else {
    const {points} = keyed;
    if (keyed.kind === "box") points[1] = cross().map((value, axis) => value + (value >= points[0][axis] ? 0.5 : -0.5));
    const done = keyed;
    abort();
    if (done.kind === "box") done.points[0] = done.points[0].map((value, axis) => value + (done.points[1][axis] >= value ? -0.5 : 0.5));
    finish(done.kind, done.points, done.isOpposite);
  }
}

let repeats = 0;
/** Move the cross, faster the longer the key is held. */
function moveCross([right, below], isRepeated) {
  repeats = isRepeated ? repeats + 1 : 0;
  const far = repeats < 6 ? 1 : repeats < 20 ? 3 : 8;
  const [x, y] = data.toPixel(own(), scan.place);
  data.go(data.toPlace(own(), [x + right * far, y + below * far]));
  readOut(main, scan.place);
  if (!keyed) return;
  keyed.points = keyed.kind === "box" ? [keyed.points[0], cross()] : [...keyed.points, cross()].slice(0, MOST_STROKE);
  setSketch(sketchOf(keyed.kind, keyed.points, keyed.isOpposite));
}

const isTyping = target => target.matches("input:not([type=checkbox]):not([type=radio]):not([type=range]), textarea, select");
const isOnImage = target => target === document.body || panes.some(pane => pane.canvas === target);

document.addEventListener("keydown", event => {
  if (!data.isOpen() || document.querySelector("dialog[open]")) return;
  const {key, target} = event, isCommand = event.ctrlKey || event.metaKey, letter = key.toLowerCase();
  const done = work => { event.preventDefault(); work(); };
  if (isCommand && letter === "s") return done(showSaving);
  if (isTyping(target)) return;
  if (isCommand && letter === "z") done(event.shiftKey ? redo : undo);
  else if (isCommand && letter === "y") done(redo);
  else if (isCommand || event.altKey) return;
  else if (key === "Escape") escape();
  else if (event.shiftKey && /^Digit[1-9]$/.test(event.code)) done(() => chooseWindow(Number(event.code.at(-1)) - 1));
  else if (/^[1-9]$/.test(key)) done(() => chooseObject(Number(key) - 1));
  else if (TOOLS[letter] && !event.shiftKey) done(() => chooseTool(TOOLS[letter]));
  else if (!isOnImage(target) && (key === "Enter" || key === " " || !target.matches("button") && (ARROWS[key] || /^(Page|Home|End|Delete)/.test(key)))) return;
  else if (KEYS[key] || KEYS[letter]) done(KEYS[key] ?? KEYS[letter]);
  else if (key === " ") done(() => { if (!event.repeat) { isSpace = true; hasPanned = false; } });
  else if (ARROWS[key] && event.shiftKey) done(() => moveCross(ARROWS[key], event.repeat));
  else if (ARROWS[key]) done(() => data.step(own(), /Up|Right/.test(key) ? 1 : -1));
});
document.addEventListener("keyup", event => {
  if (event.key !== " " || !isSpace) return;
  isSpace = false;
  if (data.isOpen() && !hasPanned && !drag) press(event.shiftKey);
});

// ---- buttons -----------------------------------------------------------------------------------------------

/** After the mouse was on a button the keys are the image's again. */
document.addEventListener("click", event => {
  if (!data.isOpen() || !event.detail || !event.target.closest("button, fieldset, #objects")) return;
  const back = () => {
    if (!document.querySelector("dialog[open]") && !isTyping(document.activeElement)) main.canvas.focus({preventScroll: true});
  };
  if (event.target.closest("button")) back();
  else setTimeout(back);  // a label gives the focus away after this
});

for (const id of ["level", "width"]) $(id).addEventListener("keydown", event => { if (event.key === "Enter") main.canvas.focus(); });
$("scan-tools").addEventListener("change", event => chooseTool(event.target.value));
$("scan-undo").addEventListener("click", undo);
$("scan-redo").addEventListener("click", redo);
$("scan-clear").addEventListener("click", clear);
$("radius").addEventListener("input", () => setRadius(Number($("radius").value)));
$("scan-zoom-in").addEventListener("click", () => main.lens.zoom(ZOOM));
$("scan-zoom-out").addEventListener("click", () => main.lens.zoom(1 / ZOOM));
$("scan-fit").addEventListener("click", () => main.lens.reset());
data.listen(() => {
  if (!data.isOpen()) return;
  for (const pane of panes) pane.canvas.dataset.tool = pane === main ? scan.tool : "cross";
});
