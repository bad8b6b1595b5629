// A scan of several slices: where a person looks, what the server says of it, and what is done to it. The server holds
// the session; a reload finds it again.
//
// A place is [s, p, l], a voxel counted along the axes of radiological viewing, as in planes.py; slice number s of the
// axial plane, p of the coronal and l of the sagittal one meet in it. Points are (x, y) in pixels of a slice.

import {ask, fetchBlob} from "./api.js";
import {say, unsay} from "./status.js";
import {state} from "./state.js";

export const PLANES = ["axial", "coronal", "sagittal"];
const AXES = [[1, 2], [0, 2], [0, 1]];  // of each plane, the axes that its rows and its columns run along
const KEPT = "synthfm-scans";
const POLL = 150;  // milliseconds, while something is propagated

export const scan = {
  id: null,  // of the session
  image: null, frame: 0,
  info: null,  // what does not change: shape, spacing, coding ...
  place: [0, 0, 0],
  levels: [0, 1],
  seen: null,  // the server's last word: its place, objects, undo, job
  active: null,  // the object that is drawn
  tool: "click",
  radius: 6,  // of the brush, in pixels
  auto: false,  // whether every prompt is followed by the whole volume
  hidden: false,  // the masks
  waiting: 0,  // things done that the server has not answered
  pending: [],  // prompts of them, {at, clicks, box}
};

const listeners = [];
/** Call a function whenever something of the scan has changed. */
export const listen = listener => { listeners.push(listener); };
export function changed() {
  for (const listener of listeners) listener();
}

export const isOpen = () => document.body.dataset.view === "scan" && scan.info !== null;
const path = what => `/api/scans/${scan.id}/${what}`;

// ---- geometry ----------------------------------------------------------------------------------------------

/** Size and spacing of the slices of a plane, as lens.js wants them. */
export function sizeOf(plane) {
  const {shape, spacing} = scan.info, [rows, columns] = AXES[plane];
  return {width: shape[columns], height: shape[rows], spacing: [spacing[rows], spacing[columns]]};
}

const isTurned = plane => plane > 0 && scan.info.upright;  // superior is on top

/** Where in a plane's slices a place lies. */
export function toPixel(plane, place) {
  const [rows, columns] = AXES[plane];
  return [place[columns], isTurned(plane) ? scan.info.shape[rows] - 1 - place[rows] : place[rows]];
}

/** The place of a pixel in the slice of a plane that is shown, moved into the scan. */
export function toPlace(plane, [x, y]) {
  const [rows, columns] = AXES[plane], {shape} = scan.info, place = [...scan.place];
  const inside = (value, axis) => Math.min(Math.max(Math.floor(value), 0), shape[axis] - 1);
  place[columns] = inside(x, columns);
  place[rows] = isTurned(plane) ? shape[rows] - 1 - inside(y, rows) : inside(y, rows);
  return place;
}

/** A place as the file's voxel i, j, k. */
export const toVoxel = place => scan.info.voxels.map(([axis, flipped]) => flipped ? scan.info.shape[axis] - 1 - place[axis] : place[axis]);

/** Number of the slice that is drawn on. */
export const number = () => scan.place[scan.info.own];
export const count = () => scan.info.shape[scan.info.own];

// ---- opening -----------------------------------------------------------------------------------------------

function kept() {
  try {
    const found = JSON.parse(localStorage.getItem(KEPT));
    if (found?.token === state.token) return found;
  } catch { /* a browser that keeps nothing */ }
  return {token: state.token, open: {}};
}

/** Write down what a reload goes on with. */
function keep() {
  if (scan.id === null) return;
  const all = kept(), {id, place, levels, active, auto} = scan;
  all.open[`${scan.image}|${scan.frame}`] = {id, place, levels, active, auto};
  try { localStorage.setItem(KEPT, JSON.stringify(all)); } catch { /* as above */ }
}

/** What the server has of a file, opened now if it was not before. `show` makes it what is seen. */
export async function fetchScan(image, frame) {
  const before = kept().open[`${image}|${frame}`];
  let info = before && await ask(`/api/scans/${before.id}`).catch(() => null), id = before?.id;
  const isBack = Boolean(info);
  if (!info) ({scan: id, ...info} = await ask("/api/scans", {image, frame}));
  const middle = info.shape.map(size => Math.floor(size / 2));
  const {place = middle, levels = info.levels, active = null, auto = false} = isBack ? before : {};
  return {id, image, frame, info, place, levels, active, auto};
}

export async function showScan(fetched) {
  Object.assign(scan, fetched, {seen: null, pending: []});
  document.body.dataset.view = "scan";
  keep();
  changed();
  await view();
}

/** Draw in the slices of another plane; the masks go along, their prompts do not. */
export async function turn(plane) {
  await queue;
  const {image, frame, place, levels, active, auto, id: after} = scan;
  const {scan: id, ...info} = await ask("/api/scans", {image, frame, plane, after});
  if (after === scan.id) await showScan({id, image, frame, info, place, levels, active, auto});
}

// ---- looking -----------------------------------------------------------------------------------------------

let viewing = false, again = false, poll = 0;
export const isLooking = () => viewing;

/** Ask what is seen where a person looks; while it runs, a call makes it ask once more. */
export async function view() {
  again = true;
  if (viewing) return;
  viewing = true;
  try {
    while (again) {
      again = false;
      const id = scan.id, seen = await ask(path("view"), {place: scan.place});
      if (id === scan.id) take(seen);
    }
  } finally { viewing = false; }
}

function take(seen) {
  if (scan.seen && seen.revision < scan.seen.revision) return;  // overtaken
  const ran = scan.seen?.job?.runs ? scan.seen.job : null;
  scan.seen = seen;
  const names = seen.objects.map(item => item.name);
  if (!names.includes(scan.active)) scan.active = names.at(-1) ?? null;
  clearTimeout(poll);
  if (seen.job?.runs) poll = setTimeout(() => { if (isOpen()) view().catch(error => say(error.message, true)); }, POLL);
  else if (ran) ended(seen.job, ran.object);
  keep();
  changed();
}

function ended(job, name) {
  const item = scan.seen.objects.find(one => one.name === name);
  if (job?.error) say(job.error, true);
  else if (job && item) say(`${name}: in ${item.slices.length} slices`);
}

/** How large an object is. */
export const amount = ({ml, voxels}) => ml === null ? `${voxels} voxels` : `${ml < 10 ? ml.toFixed(2) : ml.toFixed(1)} ml`;

/** Look at another place. */
export function go(place) {
  if (place.every((value, axis) => value === scan.place[axis])) return;
  scan.place = place;
  changed();
  view().catch(error => say(error.message, true));
}

/** Go some slices on in a plane. */
export function step(plane, by) {
  const place = [...scan.place];
  place[plane] = Math.min(Math.max(place[plane] + by, 0), scan.info.shape[plane] - 1);
  go(place);
}

export function setLevels(levels) {
  scan.levels = levels;
  keep();
  changed();
}

// ---- doing -------------------------------------------------------------------------------------------------

let queue = Promise.resolve();

/** Have something done, after all that was asked for before; what it shows of the scan then is seen. */
export function act(what, body = {}, pending = null) {
  const {id} = scan, place = [...scan.place];
  const entry = pending && {at: number(), clicks: [], box: null, ...pending};
  if (entry) scan.pending.push(entry);
  scan.waiting++;
  changed();
  const work = queue.then(async () => {
    const seen = await ask(`/api/scans/${id}/${what}`, {place, ...body});
    if (id !== scan.id) return seen;
    take(seen);
    if (seen.place.some((value, axis) => value !== scan.place[axis])) view().catch(error => say(error.message, true));
    return seen;
  }).finally(() => {
    scan.waiting--;
    scan.pending = scan.pending.filter(item => item !== entry);
    changed();
  });
  queue = work.catch(() => {});
  return work;
}

const names = () => scan.seen?.objects.map(item => item.name) ?? [];

/** A name that no object has. */
export function unused() {
  const taken = [...names(), scan.active];
  let k = 1;
  while (taken.includes(`object ${k}`)) k++;
  return `object ${k}`;
}

/** Draw on the slice: a click, box or brush, as actions.py has it. */
export async function draw(action, body, pending) {
  scan.active ??= unused();
  const object = scan.active, auto = scan.auto;
  say("");
  await act(`do/${action}`, {object, levels: scan.levels, ...body}, pending);
  if (auto) await act("propagate", {object, levels: scan.levels});
}

/** Undo or redo, and go to the slice where that was. */
export async function travel(direction) {
  const {moved, place} = await act(direction);
  if (moved !== null && moved !== number()) go(place);
}

export async function propagate() {
  if (!scan.active) throw new Error("nothing to go out from; click on an object first");
  say("");
  await act("propagate", {object: scan.active, levels: scan.levels});
}

export const isRunning = () => Boolean(scan.seen?.job?.runs);

/** The masks as a file: {name, blob}. */
export async function save(suffix) {
  await queue;
  return fetchBlob(path("save"), {place: scan.place, suffix});
}

window.addEventListener("pagehide", keep);
listen(() => { if (!scan.waiting) unsay("asking"); });
