"use strict";
// The page of `synthfm-eval app`. Coordinates are pixels of the image: (0, 0) is the centre of the top left one,
// boxes are half-open, outlines run from the image's corner.

const COLOURS = ["#ff4136", "#ffdc00", "#39a0ff", "#f012be", "#ff851b", "#b07cff", "#7fdbff", "#01ff70"];
const REFERENCE = "#2ecc40", POSITIVE = "#39cccc", NEGATIVE = "#f012be", BOX = "#ffdc00";
const WINDOWS = {"as opened": null, "soft tissue": [-160, 240], "lung": [-1350, 150], "bone": [-500, 1300], "brain": [0, 80]};
const HOUNSFIELD = -500;  // as in pictures.py: an image that goes below is taken for CT
const OWN = "";  // the source that is no dataset
const AT_ONCE = 32;  // files of a request: the server keeps each open while it reads the request
const MOST_BYTES = 4 * 2 ** 30;  // as in server.py
const DRAG = 4;  // pixels of the screen before a click becomes a box

const $ = id => document.getElementById(id);
const canvas = $("canvas"), pen = canvas.getContext("2d");
const state = {methods: [], files: [], shown: null, picture: null, drawn: [], before: [], drag: null, answers: {}};
let asking = false, again = false;
let wanted = null;  // the place that is on its way, and whether it is the picture that is there, shown otherwise

async function api(path, body) {
  const options = body === undefined ? {} : body instanceof FormData
    ? {method: "POST", body} : {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)};
  let reply;
  try { reply = await fetch(path, options); } catch { throw new Error("the server does not answer; is it still running?"); }
  if (!reply.ok) throw new Error((await reply.json().catch(() => ({}))).error || reply.statusText);
  return reply;
}
const ask = async (path, body) => (await api(path, body)).json();

function say(text, bad = false) { $("status").textContent = text; $("status").classList.toggle("bad", bad); }
const guarded = work => async (...given) => { try { await work(...given); } catch (error) { say(error.message, true); } };

function unread(problems) {
  say(problems.length ? `${problems.length} could not be read, the first: ${problems[0]}` : "", problems.length > 0);
}

// ---- which image -------------------------------------------------------------------------------------------

const chooseSource = guarded(async () => {
  const name = $("source").value;
  let cases = state.files;
  if (name !== OWN) {
    say("reading…");
    const found = await ask(`/api/datasets/${encodeURIComponent(name)}`);
    if ($("source").value !== name) return;
    cases = found.cases;
    unread(found.problems);
  }
  $("cases").replaceChildren(...cases.map(item => new Option(item.title, item.image)));
  if (cases.length) { $("cases").selectedIndex = 0; await open($("cases").value); }
});

const open = image => show({image});
const leaving = () => wanted !== null && !wanted.same;  // what is drawn now would be for a picture that goes

async function show(place, same = false) {
  const mine = wanted = {place, same};
  const picture = new Image();
  let shown;
  try {
    shown = await ask("/api/show", place);
    picture.src = shown.png;
    await picture.decode();
  } catch (error) {
    if (mine !== wanted) return;
    wanted = null;
    controls();  // back to what is still there
    throw error;
  }
  if (mine !== wanted) return;  // something else has been chosen since
  wanted = null;
  if (!same) Object.assign(state, {drawn: [], before: [], drag: null});  // prompts belong to a picture
  Object.assign(state, {shown: {...shown, image: place.image}, picture, answers: {}});
  controls();
  shown.levels.forEach((value, k) => {
    const field = $(k ? "high" : "low");
    if (document.activeElement !== field) field.value = +value.toPrecision(6);  // not what is being typed
  });
  for (const button of $("windows").children) button.hidden = button.dataset.ct === "true" && shown.span[0] >= HOUNSFIELD;
  $("reference-label").hidden = !shown.references.length;
  fit();
  await answer();
}

function controls() {
  const {shown} = state;
  if (!shown) return;
  $("cases").value = shown.image;
  $("volume").hidden = shown.image.startsWith("case/");
  $("plane-row").hidden = shown.slices === 1 && shown.plane === "auto";
  $("frame-row").hidden = shown.frames === 1;
  for (const [id, count] of [["slice", shown.slices], ["frame", shown.frames]]) {
    $(id).max = count - 1;
    $(id).value = shown[id];
    $(id).parentElement.hidden = count === 1;
    $(`${id}-number`).textContent = `${shown[id]} / ${count - 1}`;
  }
  $("plane").value = shown.plane;
}

function here() {
  const {image, frame, plane, slice, levels} = state.shown;
  return {image, frame, plane, slice, levels};
}

const goTo = guarded(async changes => {
  if (!state.shown || (wanted && wanted.place.image !== state.shown.image)) return;  // the controls are of an image that goes
  const same = Object.keys(changes).join() === "levels" && !leaving();
  say("");
  await show({...(wanted ? wanted.place : here()), ...changes}, same);
});

const send = guarded(async files => {
  if (!files.length) return;
  if (files.reduce((sum, file) => sum + file.size, 0) > MOST_BYTES) throw new Error("more than 4 GiB at once: open fewer files");
  let upload;
  for (let first = 0; first < files.length; first += AT_ONCE) {
    const form = new FormData();
    if (upload) form.append("upload", upload);
    for (const file of files.slice(first, first + AT_ONCE)) form.append("files", file, file.name);
    say(files.length === 1 ? `sending ${files[0].name}…` : `sending ${files.length} files, ${first} are there…`);
    ({upload} = await ask("/api/files", form));
  }
  say(files.length === 1 ? `opening ${files[0].name}…` : `opening ${files.length} files…`);
  const {opened, problems} = await ask("/api/open", {upload});
  state.files = (await ask("/api/start")).files;
  $("source").value = OWN;
  $("cases").replaceChildren(...state.files.map(item => new Option(item.title, item.image)));
  unread(problems);
  await open(opened[0].image);
});

const drop = guarded(async ({items, files}) => {
  const plain = [...files];  // both are there only as long as the event lasts
  const entries = [...items].map(item => item.webkitGetAsEntry()).filter(Boolean);
  const found = entries.length ? (await Promise.all(entries.map(filesOf))).flat() : plain;
  if (entries.length && !found.length) throw new Error("no file lies in the folder");
  await send(found);
});

async function filesOf(entry) {
  if (entry.isFile) return [await new Promise((done, failed) => entry.file(done, failed))];
  const reader = entry.createReader(), found = [];
  for (;;) {  // a reader gives some at a time, none at the end
    const inner = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!inner.length) return found;
    for (const item of inner) if (!item.name.startsWith(".")) found.push(...await filesOf(item));
  }
}

// ---- prompts and masks -------------------------------------------------------------------------------------

const clicks = () => state.drawn.filter(item => item.length === 3);
const box = () => state.drawn.find(item => item.length === 4) || null;
const chosen = () => state.methods.filter(name => document.querySelector(`#methods input[value="${CSS.escape(name)}"]`).checked);
const question = method => ({...here(), method, clicks: clicks(), box: box()});

async function answer() {
  again = true;
  draw();
  if (asking) return;  // the round that runs begins anew when its answer is there
  asking = true;
  while (again) {
    again = false;
    state.answers = {};
    for (const method of state.drawn.length ? chosen() : []) {
      let found;
      if (!$("status").classList.contains("bad")) say(`asking ${method}…`);
      try { found = await ask("/api/ask", question(method)); } catch (error) { found = {error: error.message}; }
      if (again) break;
      state.answers[method] = found;
      draw();
      table();
    }
  }
  asking = false;
  if ($("status").textContent.startsWith("asking ")) say("");
  draw();
  table();
}

function table() {
  const rows = Object.entries(state.answers).map(([method, found]) => {
    const row = document.createElement("tr");
    const cell = (text, kind = "n") => { const made = row.insertCell(); made.textContent = text; made.className = kind; return made; };
    const name = cell(" " + method, "");
    name.prepend(swatch(method));
    if (found.error) { const made = cell(found.error, "bad"); made.colSpan = 5; return row; }
    cell(found.dsc === null ? "" : `${found.dsc.toFixed(3)} (${found.structure})`);
    cell(found.iou === null ? "" : found.iou.toFixed(2));
    cell(found.mm2 === null ? `${found.pixels} px` : `${found.mm2.toFixed(found.mm2 < 100 ? 1 : 0)} mm²`);
    cell(`${(found.encode_ms + found.predict_ms).toFixed(0)} ms`);
    const save = document.createElement("button");
    save.textContent = "Save mask";
    save.addEventListener("click", guarded(() => saveMask(method)));
    cell("", "").append(save);
    return row;
  });
  $("results").tBodies[0].replaceChildren(...rows);
  $("results").hidden = !rows.length;
}

async function saveMask(method) {
  const title = [...$("cases").options].find(item => item.value === state.shown.image)?.text || "image";
  const frame = state.shown.frames > 1 ? `_frame${state.shown.frame}` : "";
  const place = frame + (state.shown.slices > 1 ? `_${state.shown.plane}${state.shown.slice}` : "");
  const blob = await (await api("/api/mask.png", question(method))).blob();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${title}${place}_${method}.png`.replace(/[^\w.+-]+/g, "-");
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function change(drawn) {
  if (leaving() || !(drawn.length || state.drawn.length)) return draw();
  state.before.push(state.drawn);
  state.drawn = drawn;
  say("");
  answer();
}

function undo() {
  if (leaving() || !state.before.length) return;
  state.drawn = state.before.pop();
  say("");
  answer();
}

// ---- the canvas --------------------------------------------------------------------------------------------

const colour = method => COLOURS[state.methods.indexOf(method) % COLOURS.length];
function swatch(method) {
  const mark = document.createElement("span");
  mark.className = "swatch";
  mark.style.background = colour(method);
  return mark;
}

// Canvas pixels per pixel of the image, which is not square where its slices are thick.
const scale = () => [canvas.width / state.shown.width, canvas.height / state.shown.height];

function fit() {
  if (!state.shown) return;
  const [down, across] = state.shown.spacing || [1, 1], stage = $("stage");
  const width = state.shown.width * across, height = state.shown.height * down;
  const most = Math.min(stage.clientWidth / width, stage.clientHeight / height);
  canvas.style.width = `${width * most}px`;
  canvas.style.height = `${height * most}px`;
  canvas.width = Math.round(width * most * devicePixelRatio);
  canvas.height = Math.round(height * most * devicePixelRatio);
  draw();
}

function paths(outlines) {
  const path = new Path2D(), [across, down] = scale();
  for (const line of outlines) {
    for (let k = 0; k < line.length; k += 2) path[k ? "lineTo" : "moveTo"](line[k] * across, line[k + 1] * down);
    path.closePath();
  }
  return path;
}

function draw() {
  if (!state.shown) return;
  const [across, down] = scale(), line = 2 * devicePixelRatio;
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(state.picture, 0, 0, canvas.width, canvas.height);
  pen.lineWidth = line;
  pen.setLineDash([]);
  if ($("reference").checked) {
    pen.strokeStyle = REFERENCE;
    for (const item of state.shown.references) pen.stroke(paths(item.outline));
  }
  const methods = Object.keys(state.answers).filter(name => !state.answers[name].error);
  for (const method of methods) {
    const path = paths(state.answers[method].outline);
    pen.strokeStyle = pen.fillStyle = colour(method);
    pen.globalAlpha = 0.25;
    if (method === methods[0]) pen.fill(path, "evenodd");
    pen.globalAlpha = 1;
    pen.stroke(path);
  }
  const boxes = [box(), state.drag && state.drag.box].filter(Boolean);
  pen.strokeStyle = BOX;
  pen.setLineDash([4 * line, 2 * line]);
  for (const [x0, y0, x1, y1] of boxes) pen.strokeRect(x0 * across, y0 * down, (x1 - x0) * across, (y1 - y0) * down);
  pen.setLineDash([]);
  for (const [x, y, label] of clicks()) {
    pen.beginPath();
    pen.arc((x + 0.5) * across, (y + 0.5) * down, 2.5 * line, 0, 2 * Math.PI);
    pen.fillStyle = label ? POSITIVE : NEGATIVE;
    pen.fill();
    pen.strokeStyle = "#000";
    pen.lineWidth = line / 2;
    pen.stroke();
    pen.lineWidth = line;
  }
}

function at(event) {
  const edge = canvas.getBoundingClientRect(), {width, height} = state.shown;
  const inside = (part, size) => Math.min(Math.max(part * size, 0), size);
  return [inside((event.clientX - edge.left) / edge.width, width), inside((event.clientY - edge.top) / edge.height, height)];
}

canvas.addEventListener("pointerdown", event => {
  if (!state.shown || leaving() || event.button > 2 || event.button === 1) return;
  canvas.setPointerCapture(event.pointerId);
  state.drag = {from: at(event), screen: [event.clientX, event.clientY], background: event.button === 2 || event.shiftKey, box: null};
});
canvas.addEventListener("pointermove", event => {
  const drag = state.drag;
  if (!drag || drag.background) return;
  if (!drag.box && Math.hypot(event.clientX - drag.screen[0], event.clientY - drag.screen[1]) < DRAG) return;
  const to = at(event);
  drag.box = [Math.floor(Math.min(drag.from[0], to[0])), Math.floor(Math.min(drag.from[1], to[1])),
    Math.ceil(Math.max(drag.from[0], to[0])), Math.ceil(Math.max(drag.from[1], to[1]))];
  draw();
});
canvas.addEventListener("pointerup", () => {
  const drag = state.drag;
  state.drag = null;
  if (!drag) return;
  if (drag.box) {
    const [x0, y0, x1, y1] = drag.box;
    return x1 > x0 && y1 > y0 ? change([drag.box]) : draw();  // a box begins anew
  }
  const [x, y] = [Math.min(Math.floor(drag.from[0]), state.shown.width - 1), Math.min(Math.floor(drag.from[1]), state.shown.height - 1)];
  change([...state.drawn, [x, y, drag.background ? 0 : 1]]);
});
canvas.addEventListener("pointercancel", () => { state.drag = null; draw(); });
canvas.addEventListener("contextmenu", event => event.preventDefault());
canvas.addEventListener("wheel", event => {
  if (!state.shown || state.shown.slices === 1) return;
  event.preventDefault();
  step(event.deltaY > 0 ? 1 : -1);
}, {passive: false});

function step(by) {
  const to = Number($("slice").value) + by;
  if (!state.shown || wanted || to < 0 || to >= state.shown.slices) return;
  $("slice").value = to;
  goTo({slice: to});
}

document.addEventListener("keydown", event => {
  if (event.key === "Escape") { state.drag = null; change([]); }
  else if (event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey) && event.target.type !== "number") { event.preventDefault(); undo(); }
  else if (event.target === canvas && (event.key === "ArrowUp" || event.key === "ArrowDown")) { event.preventDefault(); step(event.key === "ArrowUp" ? 1 : -1); }
});

// ---- the rest ----------------------------------------------------------------------------------------------

$("undo").addEventListener("click", undo);
$("clear").addEventListener("click", () => change([]));
$("reference").addEventListener("change", draw);
$("source").addEventListener("change", chooseSource);
$("cases").addEventListener("change", guarded(() => open($("cases").value)));
$("slice").addEventListener("input", () => goTo({slice: Number($("slice").value)}));
$("frame").addEventListener("input", () => goTo({frame: Number($("frame").value), levels: null}));
$("plane").addEventListener("change", () => goTo({plane: $("plane").value, slice: null}));
for (const id of ["low", "high"]) $(id).addEventListener("change", () => goTo({levels: [Number($("low").value), Number($("high").value)]}));
$("windows").replaceChildren(...Object.entries(WINDOWS).map(([name, levels]) => {
  const button = document.createElement("button");
  button.textContent = name;
  button.dataset.ct = levels !== null;
  button.addEventListener("click", () => goTo({levels}));
  return button;
}));
$("open").addEventListener("click", () => $("files").click());
$("files").addEventListener("change", () => { send([...$("files").files]); $("files").value = ""; });
document.addEventListener("dragover", event => { event.preventDefault(); $("stage").classList.add("drop"); });
document.addEventListener("dragleave", () => $("stage").classList.remove("drop"));
document.addEventListener("drop", event => { event.preventDefault(); $("stage").classList.remove("drop"); drop(event.dataTransfer); });
addEventListener("resize", fit);

guarded(async () => {
  const start = await ask("/api/start");
  state.methods = start.methods;
  state.files = start.files;
  $("methods").replaceChildren(...start.methods.map((method, number) => {
    const label = document.createElement("label"), tick = document.createElement("input");
    tick.type = "checkbox";
    tick.value = method;
    tick.checked = number === 0;
    tick.addEventListener("change", answer);
    label.append(tick, swatch(method), method);
    return label;
  }));
  $("source").replaceChildren(...start.datasets.map(item => new Option(`${item.name}: ${item.title}`, item.name)), new Option("your own files", OWN));
  $("source").value = start.files.length || !start.datasets.length ? OWN : start.datasets[0].name;
  await chooseSource();
  if (!state.shown && !$("status").textContent) say("Open an image, or drop one here.");
})();
