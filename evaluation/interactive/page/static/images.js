// Which image is shown, and how: a single one here, a scan of several slices in scan.js.

import {ask} from "./api.js";
import {answer} from "./answers.js";
import {fetchScan, showScan} from "./scan.js";
import {say, guarded} from "./status.js";
import {state, here, isSame, keep, changed, listen} from "./state.js";
import {resetView} from "./view.js";
import {WINDOWS} from "./windows.js";

const OWN = "";  // the source that is no dataset

const $ = id => document.getElementById(id);
let wanted = null;  // the place that is on its way, and whether it is the picture that is there, shown otherwise

/** Whether what is drawn now would be for a picture that goes. */
export const isLeaving = () => wanted !== null && !wanted.same;
const sourceOf = image => image.startsWith("file/") ? OWN : image.slice("case/".length, image.lastIndexOf("/"));

export function unread(problems) {
  say(problems.length ? `${problems.length} could not be read, the first: ${problems[0]}` : "", problems.length > 0);
}

/** List the images of a source; returns them. */
async function list(source) {
  let cases = state.files;
  if (source !== OWN) {
    say("reading the images…");
    const found = await ask(`/api/datasets/${encodeURIComponent(source)}`);
    if ($("source").value !== source) return null;
    cases = found.cases;
    unread(found.problems);
  }
  $("cases").replaceChildren(...cases.map(item => new Option(item.title, item.image)));
  $("cases").dataset.source = source;
  return cases;
}

const chooseSource = guarded(async () => {
  const cases = await list($("source").value);
  if (cases?.length) await show({image: cases[0].image});
});

/** Fill the list of sources. */
export function offerSources() {
  const sources = state.datasets.map(item => new Option(item.title, item.name));
  $("source").replaceChildren(...sources, new Option("your own files", OWN));
}

/** Show an image with its source chosen. */
export async function open(place) {
  const source = sourceOf(place.image);
  $("source").value = source;
  if (await list(source)) await show(place);
}

const isScan = image => state.files.some(file => file.image === image && file.slices > 1);

/** Show a place of an image; what a person has drawn there comes back. */
export async function show(place) {
  const same = isSame(state.shown, {...state.shown, ...place}) && state.shown.image === place.image && "frame" in place;
  const mine = wanted = {place, same};
  const picture = new Image();
  let shown;
  try {
    if (isScan(place.image)) shown = await fetchScan(place.image, place.frame ?? 0);
    else {
      shown = await ask("/api/show", place);
      picture.src = shown.png;
      await picture.decode();
    }
  } catch (error) {
    if (mine !== wanted) return;
    wanted = null;
    changed();  // the controls go back to what is still there
    throw error;
  }
  if (mine !== wanted) return;  // something else has been chosen since
  wanted = null;
  if (isScan(place.image)) {
    Object.assign(state, {shown: null, picture: null, answers: {}, choices: [], here: {image: place.image, frame: shown.frame}});
    keep();
    changed();
    await showScan(shown);
    return;
  }
  const isOther = state.shown?.image !== place.image;
  document.body.dataset.view = "still";
  Object.assign(state, {shown: {...shown, image: place.image}, picture, answers: {}, choices: []});
  if (isOther) resetView();
  keep();
  await answer();
}

const goTo = guarded(async changes => {
  if (!state.shown || (wanted && wanted.place.image !== state.shown.image)) return;  // the controls are of an image that goes
  say("");
  await show({...(wanted ? wanted.place : here()), ...changes});
});

function controls() {
  const {shown} = state, image = shown?.image ?? state.here?.image;
  if (image && $("cases").dataset.source === sourceOf(image)) $("cases").value = image;
  $("levels").hidden = !shown || shown.image.startsWith("case/");
  if (!shown) return;
  $("frame").max = shown.frames - 1;
  $("frame").value = shown.frame;
  $("frame-row").hidden = shown.frames === 1;
  $("frame-number").textContent = `${shown.frame} / ${shown.frames - 1}`;
  shown.levels.forEach((value, k) => {
    const field = $(k ? "high" : "low");
    if (document.activeElement !== field) field.value = +value.toPrecision(6);  // not what is being typed
  });
  for (const button of $("windows").children) button.hidden = button.dataset.ct === "true" && !shown.ct;
  $("reference-label").hidden = !shown.references.length;
}

$("source").addEventListener("change", chooseSource);
$("cases").addEventListener("change", guarded(() => show({image: $("cases").value})));
$("frame").addEventListener("input", () => goTo({frame: Number($("frame").value), levels: null}));
for (const id of ["low", "high"]) $(id).addEventListener("change", () => goTo({levels: [Number($("low").value), Number($("high").value)]}));
$("windows").replaceChildren(...WINDOWS.map(([name, levels]) => {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = name;
  button.dataset.ct = levels !== null;
  button.addEventListener("click", () => goTo({levels}));
  return button;
}));
listen(controls);
