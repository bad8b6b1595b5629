// The page of `synthfm-eval app`: what happens when it opens.

import {ask} from "./api.js";
import {answer, isAsking, offerMethods} from "./answers.js";
import "./files.js";
import {offerSources, open} from "./images.js";
import "./input.js";
import {say, guarded} from "./status.js";
import * as scanning from "./scan.js";
import "./scan_input.js";
import {onPane} from "./scan_view.js";
import {isFetching} from "./slices.js";
import {state, prompt, restore, changed} from "./state.js";
import {onScreen} from "./view.js";

const {scan} = scanning;
const isSettled = () => scanning.isOpen() && scan.seen !== null && !scan.waiting && !scanning.isLooking() && !isFetching() && !scanning.isRunning();
window.synthfm = {state, prompt, isAsking, onScreen, scan, isSettled, onPane};  // for a person at the browser's console, and for tests

/** Show the image of before a reload, or the first one. */
async function openFirst(place, first) {
  if (!place) return say("Open an image, or drop one here.");
  try { await open(place); } catch (error) {
    if (!first || place.image === first) throw error;
    await open({image: first});
  }
}

async function loadMethods() {  // meanwhile a person can look, and click
  try {
    state.methods = (await ask("/api/methods")).methods;
  } finally {
    document.getElementById("loading").hidden = true;
  }
  offerMethods();
  await answer();
}

guarded(async () => {
  changed();
  const {token, first, datasets, files} = await ask("/api/start");
  Object.assign(state, {token, datasets, files});
  const isBack = restore();
  offerSources();
  await Promise.all([openFirst((isBack && state.here) || (first && {image: first}), first), loadMethods()]);
})();
