// Slices of a scan as the server sends them, in 16 bits, and as pictures in a window of grey values.

import {fetchBuffer} from "./api.js";
import {PLANES, scan, sizeOf} from "./scan.js";
import {say} from "./status.js";

const MOST_BYTES = 256 * 2 ** 20;
const AHEAD = 3;  // slices that are fetched before they are asked for

let id = null, bytes = 0, arrived = () => {};
const slices = new Map();  // by plane and number: codes, or null while they are on their way
const last = [0, 0, 0];  // of each plane, the slice shown before

/** Call a function when a slice has come. */
export const onArrival = call => { arrived = call; };
export const isFetching = () => [...slices.values()].includes(null);

async function fetchSlice(plane, at) {
  const key = `${plane}|${at}`, own = scan.id;
  if (slices.has(key) || at < 0 || at >= scan.info.shape[plane]) return;
  slices.set(key, null);
  try {
    const codes = new Uint16Array(await fetchBuffer(`/api/scans/${own}/slices/${PLANES[plane]}/${at}`));
    if (own !== id) return;
    slices.set(key, codes);
    bytes += codes.byteLength;
    for (const [old, held] of slices) {
      if (bytes <= MOST_BYTES) break;
      if (held && old !== key) { bytes -= held.byteLength; slices.delete(old); }
    }
    arrived();
  } catch (error) {
    if (own === id) slices.delete(key);
    say(error.message, true);
  }
}

/** The codes of a slice, null while they are on their way; those that come next are fetched as well. */
export function codesOf(plane, at) {
  if (id !== scan.id) { id = scan.id; slices.clear(); bytes = 0; }
  const key = `${plane}|${at}`, found = slices.get(key);
  if (found) { slices.delete(key); slices.set(key, found); }  // used last
  fetchSlice(plane, at);
  if (plane === scan.info.own) {
    const way = Math.sign(at - last[plane]) || 1;
    for (let k = 1; k <= AHEAD; k++) fetchSlice(plane, at + k * way);
    last[plane] = at;
  }
  return found ?? null;
}

/** A voxel's value. */
export const valueAt = (codes, k) => scan.info.coding[0] + scan.info.coding[1] * codes[k];

let table = null, tableOf = null;
/** Of each code its grey level as a pixel, ABGR. */
function greys() {
  const [low, step] = scan.info.coding, [black, white] = scan.levels, key = [scan.id, black, white].join("|");
  if (tableOf === key) return table;
  table = new Uint32Array(2 ** 16);
  for (let code = 0; code < table.length; code++) {
    const grey = Math.round(Math.min(Math.max((low + step * code - black) / (white - black), 0), 1) * 255);
    table[code] = 0xff000000 | grey << 16 | grey << 8 | grey;
  }
  tableOf = key;
  return table;
}

/** Draw codes into a canvas of the slice's size. */
export function paint(canvas, plane, codes) {
  const {width, height} = sizeOf(plane), pixels = new Uint32Array(codes.length), grey = greys();
  for (let k = 0; k < codes.length; k++) pixels[k] = grey[codes[k]];
  Object.assign(canvas, {width, height});
  canvas.getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(pixels.buffer), width, height), 0, 0);
}
