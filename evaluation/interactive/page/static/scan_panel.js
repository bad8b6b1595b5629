// What stands around a scan: its objects, the window, the slice, the whole volume, saving.

import {download, sendFiles} from "./api.js";
import {show} from "./images.js";
import * as data from "./scan.js";
import {scan} from "./scan.js";
import {colourOf} from "./scan_view.js";
import {say, guarded} from "./status.js";
import {WINDOWS} from "./windows.js";

const $ = id => document.getElementById(id);
const objects = () => scan.seen?.objects ?? [];
const objectOf = name => objects().find(item => item.name === name);

function element(kind, properties = {}, ...children) {
  const made = Object.assign(document.createElement(kind), properties);
  made.append(...children);
  return made;
}

const ICONS = {  // paths in a square of 16
  open: "M5 7V4.5a3 3 0 0 1 5.8-1M3.5 7h9v6.5h-9z",
  locked: "M5 7V5a3 3 0 0 1 6 0v2M3.5 7h9v6.5h-9z",
  remove: "M4 4l8 8M12 4l-8 8",
};

function iconButton(icon, label, call, pressed) {
  const made = element("button", {type: "button", title: label, className: "icon"});
  made.innerHTML = `<svg viewBox="0 0 16 16" aria-hidden="true"><path d="${ICONS[icon]}"/></svg>`;
  made.setAttribute("aria-label", label);
  if (pressed !== undefined) made.setAttribute("aria-pressed", pressed);
  made.addEventListener("click", call);
  return made;
}

// ---- objects -----------------------------------------------------------------------------------------------

export function chooseObject(index) {
  const item = objects()[index];
  if (!item) return;
  scan.active = item.name;
  data.changed();
}

export const addObject = guarded(async () => {
  const name = data.unused();
  await data.act("do/add", {object: name});
  scan.active = name;
  data.changed();
});

export const removeObject = guarded(async name => { if (objectOf(name)) await data.act("do/remove", {object: name}); });

export const lockObject = guarded(async name => {
  const item = objectOf(name);
  if (item) await data.act("do/finish", {object: name, finished: !item.finished});
});

/** Have a person type another name where the name stands. */
export function askName(name) {
  const row = [...$("objects").children].find(item => item.dataset.name === name);
  if (!row || isNaming) return;
  isNaming = true;
  const field = element("input", {type: "text", value: name, maxLength: 60});
  field.setAttribute("aria-label", `New name of ${name}`);
  let isDone = false;
  const end = guarded(async isWanted => {
    if (isDone) return;
    isDone = true;
    isNaming = false;
    const given = field.value.trim();
    drawnList = null;
    if (isWanted && given && given !== name) {
      const isActive = scan.active === name;
      await data.act("do/rename", {object: name, new: given});
      if (isActive) scan.active = given;
      data.changed();
    }
    list();
  });
  field.addEventListener("keydown", event => {
    event.stopPropagation();
    if (event.key !== "Enter" && event.key !== "Escape") return;
    end(event.key === "Enter");
    $("main-plane").focus();
  });
  field.addEventListener("blur", () => end(true));
  row.querySelector(".name").replaceWith(field);
  field.focus();
  field.select();
}

let drawnList = null, isNaming = false;
function list() {
  const wanted = JSON.stringify(objects().map(({name, finished, ml, voxels}) => [name, finished, ml, voxels]).concat([[scan.active, scan.id]]));
  if (wanted === drawnList || isNaming) return;  // not what is being typed in
  drawnList = wanted;
  const focused = document.activeElement?.closest("#objects > div")?.dataset.name;
  $("objects").replaceChildren(...objects().map((item, index) => {
    const swatch = element("span", {className: "swatch"});
    swatch.style.background = colourOf(item.name);
    const choice = element("input", {type: "radio", name: "object", value: item.name, checked: item.name === scan.active});
    choice.addEventListener("change", () => chooseObject(index));
    const name = element("span", {className: "name", textContent: item.name, title: `${item.name} (double click or F2 to rename)`});
    const label = element("label", {}, choice, swatch, name, element("span", {className: "fact", textContent: data.amount(item)}));
    label.addEventListener("dblclick", event => { event.preventDefault(); askName(item.name); });
    const row = element("div", {className: "object"}, label,
      iconButton(item.finished ? "locked" : "open", item.finished ? `Unlock ${item.name}` : `Lock ${item.name}: it is finished, others end where it is`, () => lockObject(item.name), item.finished),
      iconButton("remove", `Remove ${item.name}`, () => removeObject(item.name)));
    row.dataset.name = item.name;
    return row;
  }));
  $("no-objects").hidden = objects().length > 0;
  if (focused) [...$("objects").children].find(row => row.dataset.name === focused)?.querySelector("input").focus();
}

export const openMask = () => $("mask-files").click();

const sendMask = guarded(async files => {
  if (!files.length) return;
  say(`opening ${files[0].name}…`);
  const upload = await sendFiles(files, () => {});
  await data.act("begin", {upload});
  scan.active = objects().at(-1).name;
  const [first] = objects().at(-1).slices;
  if (first !== undefined && !objects().at(-1).slices.includes(data.number())) {
    const place = [...scan.place], {slices} = objects().at(-1);
    place[scan.info.own] = slices[Math.floor(slices.length / 2)];
    data.go(place);
  }
  say("");
  data.changed();
});

// ---- window ------------------------------------------------------------------------------------------------

const offered = () => scan.info.ct ? WINDOWS : WINDOWS.slice(0, 1);

export function chooseWindow(index) {
  const window = offered()[index];
  if (window) data.setLevels(window[1] ?? scan.info.levels);
}

function windows() {
  const [low, high] = scan.levels;
  for (const [id, value] of [["level", (low + high) / 2], ["width", high - low]]) {
    if (document.activeElement !== $(id)) $(id).value = +value.toPrecision(5);
  }
  const names = offered();
  if ($("scan-windows").childElementCount !== names.length) {
    $("scan-windows").replaceChildren(...names.map(([name], index) => {
      const button = element("button", {type: "button", textContent: name, title: `Shift+${index + 1}`});
      button.addEventListener("click", () => chooseWindow(index));
      return button;
    }));
  }
  const isIt = ([, levels]) => (levels ?? scan.info.levels).every((value, k) => Math.abs(value - scan.levels[k]) < 1e-6);
  [...$("scan-windows").children].forEach((button, index) => button.setAttribute("aria-pressed", index === names.findLastIndex(isIt)));
}

for (const id of ["level", "width"]) $(id).addEventListener("change", () => {
  const level = Number($("level").value), width = Number($("width").value);
  if (!(width > 0) || !Number.isFinite(level)) { say("the width of a window is above 0", true); return windows(); }
  say("");
  data.setLevels([level - width / 2, level + width / 2]);
});

// ---- slices and the whole volume ---------------------------------------------------------------------------

/** In which slices the objects are, above the slider: prompted ones in full, found ones pale. */
function track() {
  const canvas = $("track"), pen = canvas.getContext("2d"), total = data.count();
  canvas.width = Math.round(canvas.clientWidth * devicePixelRatio);
  canvas.height = Math.round(canvas.clientHeight * devicePixelRatio);
  const shown = objects().filter(item => item.slices.length), height = canvas.height / Math.max(shown.length, 2);
  const width = canvas.width / total;
  shown.forEach((item, row) => {
    pen.fillStyle = colourOf(item.name);
    for (const k of item.slices) {
      pen.globalAlpha = item.anchors.includes(k) ? 1 : 0.55;
      pen.fillRect(k * width, row * height, Math.max(width - 0.5, 1), height * 0.8);
    }
  });
  pen.globalAlpha = 1;
}

export const cancel = guarded(async () => {
  await data.act("cancel");
  say("cancelled; everything is as it was");
});

function foot() {
  const item = objectOf(scan.active), job = scan.seen?.job, isRunning = data.isRunning();
  $("scan-plane").value = data.PLANES[scan.info.own];
  $("scan-slice").max = data.count() - 1;
  $("scan-slice").value = data.number();
  $("scan-slice-number").textContent = `${data.number()} / ${data.count() - 1}`;
  $("scan-frame-row").hidden = scan.info.frames === 1;
  $("scan-frame").max = scan.info.frames - 1;
  $("scan-frame").value = scan.frame;
  $("scan-frame-number").textContent = `${scan.frame} / ${scan.info.frames - 1}`;
  $("whole").hidden = isRunning;
  $("whole").disabled = !item?.slices.length || item.finished;
  $("running").hidden = !isRunning;
  if (isRunning) {
    $("progress").max = Math.max(job.most, 1);
    $("progress").value = job.asked;
    $("progress-text").textContent = `${job.object}: ${job.asked} slices`;
  }
  $("auto").checked = scan.auto;
  const facts = [];
  if (item?.slices.length) {
    const {slices} = item;
    facts.push(`${data.amount(item)} in ${slices.length === 1 ? `slice ${slices[0]}` : `${slices.length} slices, ${slices[0]} to ${slices.at(-1)}`}`);
    if (item.iou !== null && slices.includes(data.number())) facts.push(`IoU here, estimated ${item.iou.toFixed(2)}`);
  }
  $("facts").textContent = facts.join(" · ");
  $("scan-undo").disabled = !scan.seen?.undo;
  $("scan-redo").disabled = !scan.seen?.redo;
  $("scan-clear").disabled = !item || !(item.slices.includes(data.number()) || item.prompt.clicks.length || item.prompt.box);
  $("save").disabled = !objects().some(one => one.slices.length);
  $("scan-hint").hidden = objects().some(one => one.slices.length) || scan.waiting > 0;
}

$("scan-slice").addEventListener("input", () => {
  const place = [...scan.place];
  place[scan.info.own] = Number($("scan-slice").value);
  data.go(place);
});
$("scan-plane").addEventListener("change", guarded(() => data.turn($("scan-plane").value).finally(data.changed)));
$("scan-frame").addEventListener("change", guarded(() => show({image: scan.image, frame: Number($("scan-frame").value)})));
$("whole").addEventListener("click", guarded(data.propagate));
$("cancel").addEventListener("click", cancel);
$("auto").addEventListener("change", () => { scan.auto = $("auto").checked; data.changed(); });
$("add-object").addEventListener("click", addObject);
$("open-mask").addEventListener("click", openMask);
$("mask-files").addEventListener("change", () => { sendMask([...$("mask-files").files]); $("mask-files").value = ""; });

// ---- saving ------------------------------------------------------------------------------------------------

export function showSaving() {
  if (!objects().some(item => item.slices.length)) return say("nothing to save yet; click on an object first");
  $("formats").replaceChildren(...scan.info.formats.map(({suffix, title}, index) =>
    element("button", {type: "submit", value: suffix, autofocus: index === 0}, element("b", {textContent: title}), element("span", {className: "fact", textContent: suffix}))));
  $("saving").returnValue = "";
  $("saving").showModal();
}

$("save").addEventListener("click", showSaving);
$("saving").addEventListener("close", guarded(async () => {
  const suffix = $("saving").returnValue;
  if (!suffix.startsWith(".")) return;
  say("writing…");
  const {blob, name} = await data.save(suffix);
  download(blob, name);
  say(`saved ${name}`);
}));

new ResizeObserver(() => { if (data.isOpen()) track(); }).observe($("track"));
data.listen(() => {
  if (!data.isOpen()) return;
  list();
  windows();
  track();
  foot();
  $("loading-scan").hidden = !scan.waiting || data.isRunning();
});
