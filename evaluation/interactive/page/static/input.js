// What the mouse, a finger and the keyboard do.

import {answer, choose} from "./answers.js";
import {boxBetween} from "./drawing.js";
import {isLeaving, show} from "./images.js";
import {say, guarded} from "./status.js";
import * as store from "./state.js";
import {state, prompt} from "./state.js";
import {canvas, draw, inImage, pan, resetView, setRubber, zoom} from "./view.js";

const DRAG = 4;  // pixels of the screen before a click becomes a box
const ZOOM = 1.25;  // of a key or a button
const PAN = 60;  // pixels of the screen, of a key

const $ = id => document.getElementById(id);
const tool = () => document.querySelector("#tools input:checked").value;
let drag = null;
let isSpace = false;

function change(to) {
  if (!state.shown || isLeaving() || (store.isEmpty(to) && store.isEmpty(prompt()))) return draw();
  store.change(to);
  say("");
  answer();
}

/** Undo or redo, and go to the slice where that was. */
const travel = (can, go) => guarded(async () => {
  if (!state.shown || isLeaving() || !can()) return;
  say("");
  const at = go();
  if (store.isSame(at, state.shown)) await answer();
  else await show({...at, levels: at.frame === state.shown.frame ? state.shown.levels : null});
});
const undo = travel(store.canUndo, store.undo), redo = travel(store.canRedo, store.redo);
const clear = () => change(store.NOTHING);

function kindOf(event) {
  if (event.button === 1 || isSpace || tool() === "move") return "move";
  if (event.button === 2 || event.shiftKey) return "background";
  return tool();
}

function click([x, y], label) {
  const at = [Math.floor(x), Math.floor(y)];
  if (at[0] < 0 || at[1] < 0 || at[0] >= state.shown.width || at[1] >= state.shown.height) return;  // beside the image
  const {clicks, box, choice} = prompt();
  change({clicks: [...clicks, [...at, label]], box, choice});
}

canvas.addEventListener("pointerdown", event => {
  if (!state.shown || event.button > 2) return;
  const kind = kindOf(event);
  if (isLeaving() && kind !== "move") return;
  canvas.setPointerCapture(event.pointerId);
  drag = {kind, from: inImage(event.clientX, event.clientY), start: [event.clientX, event.clientY], last: [event.clientX, event.clientY], box: null};
});
canvas.addEventListener("pointermove", event => {
  if (!drag) return;
  if (drag.kind === "move") {
    pan(event.clientX - drag.last[0], event.clientY - drag.last[1]);
    drag.last = [event.clientX, event.clientY];
    return;
  }
  if (drag.kind === "background") return;
  if (!drag.box && Math.hypot(event.clientX - drag.start[0], event.clientY - drag.start[1]) < DRAG) return;
  drag.box = boxBetween(drag.from, inImage(event.clientX, event.clientY), state.shown);
  setRubber(drag.box);
});
canvas.addEventListener("pointerup", () => {
  const done = drag;
  drag = null;
  setRubber(null);
  if (!done || done.kind === "move") return;
  if (done.box) {
    const [x0, y0, x1, y1] = done.box;
    if (x1 > x0 && y1 > y0) change({...store.NOTHING, box: done.box});  // a box begins anew
  } else if (done.kind !== "box") click(done.from, done.kind === "background" ? 0 : 1);
});
canvas.addEventListener("pointercancel", () => { drag = null; setRubber(null); });
canvas.addEventListener("mousedown", event => { if (event.button === 1) event.preventDefault(); });  // no scrolling by itself
canvas.addEventListener("contextmenu", event => event.preventDefault());
canvas.addEventListener("wheel", event => {
  if (!state.shown) return;
  event.preventDefault();
  zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.002)), event.clientX, event.clientY);
}, {passive: false});

const isTyping = target => target.matches("input:not([type=checkbox]):not([type=radio]), textarea, select");
const KEYS = {
  "+": () => zoom(ZOOM), "=": () => zoom(ZOOM), "-": () => zoom(1 / ZOOM), "0": resetView,
  "1": () => choose(0), "2": () => choose(1), "3": () => choose(2),
  "?": () => $("help").showModal(),
};
const ARROWS = {ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]};

document.addEventListener("keydown", event => {
  if (document.body.dataset.view !== "still") return;
  const key = event.key, isCommand = event.ctrlKey || event.metaKey;
  if ($("help").open || (isTyping(event.target) && key !== "Escape" && event.target.type !== "range" && !(isCommand && event.target.matches("select")))) return;
  if (isCommand && key.toLowerCase() === "z") { event.preventDefault(); (event.shiftKey ? redo : undo)(); }
  else if (isCommand && key.toLowerCase() === "y") { event.preventDefault(); redo(); }
  else if (isCommand || event.altKey) return;
  else if (key === "Escape") { drag = null; setRubber(null); clear(); }
  else if (KEYS[key]) { event.preventDefault(); KEYS[key](); }
  else if (event.target !== canvas) return;
  else if (key === " ") { event.preventDefault(); isSpace = true; canvas.classList.add("move"); }
  else if (ARROWS[key]) { event.preventDefault(); pan(...ARROWS[key].map(value => value * PAN)); }
});
document.addEventListener("keyup", event => {
  if (event.key === " ") { isSpace = false; showTool(); }
});

const showTool = () => canvas.classList.toggle("move", tool() === "move");
$("tools").addEventListener("change", showTool);
$("undo").addEventListener("click", undo);
$("redo").addEventListener("click", redo);
$("clear").addEventListener("click", clear);
$("zoom-in").addEventListener("click", () => zoom(ZOOM));
$("zoom-out").addEventListener("click", () => zoom(1 / ZOOM));
$("fit").addEventListener("click", resetView);
$("keys").addEventListener("click", () => $(document.body.dataset.view === "still" ? "help" : "scan-help").showModal());
$("reference").addEventListener("change", () => {
  state.reference = $("reference").checked;
  store.keep();
  draw();
});
store.listen(() => {
  $("undo").disabled = !store.canUndo();
  $("redo").disabled = !store.canRedo();
  $("clear").disabled = store.isEmpty(prompt());
  $("hint").hidden = !state.shown || !store.isEmpty(prompt());
  $("reference").checked = state.reference;
});
