// Methods are asked for the mask of the prompt, and what they say is shown beside the picture.

import {ask, download, fetchBlob} from "./api.js";
import {say, unsay, guarded, isComplaint} from "./status.js";
import {state, here, prompt, isAmbiguous, isEmpty, change, changed, keep, listen} from "./state.js";
import {colour, thumbnail} from "./view.js";

const THUMBNAIL = 76;
const $ = id => document.getElementById(id);
let asking = false, again = false;

export const isAsking = () => asking;
const question = method => ({...here(), method, ...prompt()});
const titleOf = name => state.methods.find(item => item.name === name).title;

/** Names of the methods that are asked, the one that answers first. */
function asked() {
  if (!state.methods.length) return [];
  const [first, ...others] = state.methods.map(item => item.name);
  return [first, ...others.filter(name => state.comparing && state.compared.includes(name))];
}

/** Ask for the masks of the prompt; while it runs, a call makes it begin anew. */
export async function answer() {
  again = true;
  changed();
  if (asking) return;
  asking = true;
  while (again) {
    again = false;
    Object.assign(state, {answers: {}, choices: []});
    for (const method of isEmpty(prompt()) ? [] : asked()) {
      if (!isComplaint()) say(`asking ${titleOf(method)}…`);
      const found = await ask("/api/ask", question(method)).catch(error => ({error: error.message}));
      if (again) break;
      state.answers[method] = found;
      changed();
      if (Object.keys(state.answers).length === 1) await offer(method);
      if (again) break;
    }
  }
  asking = false;
  unsay("asking ");
  changed();
}

/** Offer the masks that one click alone may mean; choosing one is a step that can be undone. */
async function offer(method) {
  if (!isAmbiguous(prompt())) return;
  const {choices} = await ask("/api/choices", question(method)).catch(() => ({choices: []}));
  if (again) return;
  state.choices = choices;
  changed();
}

export function choose(number) {
  const item = state.choices[number];
  if (!item || !isAmbiguous(prompt())) return;
  change({...prompt(), choice: item.choice});
  answer();
}

// ---- what is shown of it -----------------------------------------------------------------------------------

function element(kind, text, name) {
  const made = document.createElement(kind);
  made.textContent = text;
  if (name) made.className = name;
  return made;
}

function swatch(method) {
  const mark = element("span", "", "swatch");
  mark.style.background = colour(method);
  return mark;
}

function named(method) {
  const made = element("span", titleOf(method), "method");
  made.prepend(swatch(method));
  return made;
}

const area = found => found.mm2 === null ? `${found.pixels} px`
  : found.mm2 < 100 ? `${found.mm2.toFixed(1)} mm²` : `${(found.mm2 / 100).toFixed(found.mm2 < 1000 ? 2 : 1)} cm²`;
const FACTS = [  // of an answer; one that no answer has takes no room
  ["Dice", found => found.dsc === null ? null : `${found.dsc.toFixed(3)} (${found.structure})`],
  ["IoU, estimated", found => found.iou === null ? null : found.iou.toFixed(2)],
  ["area", area],
  ["time", found => `${(found.encode_ms + found.predict_ms).toFixed(0)} ms`],
];
const factsOf = answers => FACTS.filter(([, tell]) => answers.some(found => tell(found) !== null));

function saveButton(method) {
  const button = element("button", "Save mask");
  button.type = "button";
  button.addEventListener("click", guarded(() => save(method)));
  return button;
}

function result() {
  const method = state.methods[0]?.name, found = state.answers[method];
  $("result").hidden = !found;
  if (!found) return;
  const parts = [named(method)];
  if (found.error) parts.push(element("span", found.error, "bad"));
  else {
    for (const [name, tell] of factsOf([found])) {
      const fact = element("span", `${name} `, "fact");
      fact.append(element("b", tell(found)));
      parts.push(fact);
    }
    parts.push(saveButton(method));
  }
  $("result").replaceChildren(...parts);
}

function table() {
  const rows = Object.entries(state.answers);
  const facts = factsOf(rows.map(([, found]) => found).filter(found => !found.error));
  const head = $("comparison").tHead.rows[0];
  head.replaceChildren(...["method", ...facts.map(([name]) => name), ""].map(text => element("th", text)));
  $("comparison").tBodies[0].replaceChildren(...rows.map(([method, found]) => {
    const row = document.createElement("tr");
    row.insertCell().append(named(method));
    if (found.error) {
      const cell = row.insertCell();
      Object.assign(cell, {textContent: found.error, className: "bad", colSpan: facts.length + 1});
      return row;
    }
    for (const [, tell] of facts) row.insertCell().textContent = tell(found) ?? "–";
    row.insertCell().append(saveButton(method));
    return row;
  }));
  $("comparison").hidden = !rows.length;
}

let drawnChoices = null;
function choices() {
  const offered = isAmbiguous(prompt()) ? state.choices : [];
  $("choices").hidden = offered.length < 2;
  if (offered !== drawnChoices && offered.length) {
    $("masks").replaceChildren(...offered.map((item, number) => {
      const button = element("button", "");
      button.type = "button";
      button.title = `${item.pixels} px; key ${number + 1}`;
      button.setAttribute("aria-label", `Mask ${number + 1} of ${offered.length}, ${item.pixels} pixels`);
      button.append(thumbnail(item.outline, offered.at(-1).outline, THUMBNAIL), element("kbd", number + 1));
      button.addEventListener("click", () => choose(number));
      return button;
    }));
  }
  drawnChoices = offered;
  const taken = JSON.stringify(state.answers[state.methods[0]?.name]?.outline);
  offered.forEach((item, number) => {
    $("masks").children[number].setAttribute("aria-pressed", JSON.stringify(item.outline) === taken);
  });
}

async function save(method) {
  const {image, frames, frame} = state.shown;
  const title = [...$("cases").options].find(item => item.value === image)?.text || "image";
  const place = frames > 1 ? `_frame${frame}` : "";
  const {blob} = await fetchBlob("/api/mask.png", question(method));
  download(blob, `${title}${place}_${titleOf(method)}.png`.replace(/[^\w.+-]+/g, "-"));
}

/** Fill the list of methods to compare, when they are known. */
export function offerMethods() {
  const others = state.methods.slice(1).map(item => item.name);
  state.compared = (state.compared ?? others.slice(0, 1)).filter(name => others.includes(name));
  $("compare").hidden = !others.length;
  $("compare").open = state.comparing;
  $("methods").replaceChildren(...others.map(method => {
    const label = document.createElement("label"), tick = document.createElement("input");
    Object.assign(tick, {type: "checkbox", value: method, checked: state.compared.includes(method)});
    tick.addEventListener("change", () => {
      state.compared = tick.checked ? [...state.compared, method] : state.compared.filter(name => name !== method);
      keep();
      answer();
    });
    label.append(tick, named(method));
    return label;
  }));
}

$("compare").addEventListener("toggle", () => {
  if (state.comparing === $("compare").open) return;
  state.comparing = $("compare").open;
  keep();
  answer();
});
listen(result);
listen(table);
listen(choices);
