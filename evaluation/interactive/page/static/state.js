// All that the page knows, in one place. What a person has done is kept in the browser, so that a reload keeps it.
// Coordinates are pixels of the image: (0, 0) is the centre of the top left one, boxes are half-open, outlines run
// from the image's corner.

const KEPT = "synthfm";
const MOST_STEPS = 500;  // of one image's history
export const NOTHING = {clicks: [], box: null, choice: null};

export const state = {
  token: null,  // of this start of the server: names of files mean others at the next
  methods: [],  // {name, title}; the first one answers, the others are compared with it; none while they are loaded
  datasets: [],
  files: [],
  shown: null,  // the server's description of the picture, with the image's name
  picture: null,  // its pixels
  answers: {},  // of methods, by their names, to the prompt in the picture
  choices: [],  // what one click alone may mean
  prompts: {},  // by frame, see `keyOf`
  history: {},  // by image: {steps, done}; `done` of the steps are in force, undo goes back and redo forth
  compared: null,  // names of the methods ticked, null before a person has seen them
  comparing: false,
  reference: false,
  here: null,  // the place shown last
};

const listeners = [];
/** Call a function whenever the state has changed. */
export const listen = listener => { listeners.push(listener); };
export function changed() {
  for (const listener of listeners) listener();
}

/** The name of a frame of an image, by which its prompt is kept: it does not change with the grey levels. */
export const keyOf = place => [place.image, place.frame].join("|");
export const isSame = (one, other) => one !== null && other !== null && keyOf(one) === keyOf(other);

/** The place that is shown. */
export function here() {
  const {image, frame, levels} = state.shown;
  return {image, frame, levels};
}

/** The prompt in what is shown. */
export const prompt = () => (state.shown && state.prompts[keyOf(state.shown)]) || NOTHING;
export const isEmpty = ({clicks, box}) => !clicks.length && box === null;

/** Whether a prompt is one click on the object alone, which may mean a part or the whole. */
export const isAmbiguous = ({clicks, box}) => box === null && clicks.length === 1 && clicks[0][2] === 1;

const historyOf = image => state.history[image] ??= {steps: [], done: 0};

/** Put another prompt in place of that of the frame shown. */
export function change(after) {
  const history = historyOf(state.shown.image), before = prompt();
  history.steps.splice(history.done);
  const {levels, ...at} = here();
  history.steps.push({at, before, after});
  history.steps.splice(0, history.steps.length - MOST_STEPS);
  history.done = history.steps.length;
  put(state.shown, after);
}

function put(place, value) {
  if (isEmpty(value)) delete state.prompts[keyOf(place)];
  else state.prompts[keyOf(place)] = value;
  keep();
}

const past = () => state.shown ? historyOf(state.shown.image) : {steps: [], done: 0};
export const canUndo = () => past().done > 0;
export const canRedo = () => past().done < past().steps.length;

/** Take the last step in this image back, on whichever frame it was; returns the place. */
export function undo() {
  const step = past().steps[--past().done];
  put(step.at, step.before);
  return step.at;
}

export function redo() {
  const step = past().steps[past().done++];
  put(step.at, step.after);
  return step.at;
}

/** Write down what a reload brings back. */
export function keep() {
  const {token, prompts, history, compared, comparing, reference} = state;
  const kept = {token, prompts, history, compared, comparing, reference, here: state.shown ? here() : state.here};
  try { localStorage.setItem(KEPT, JSON.stringify(kept)); } catch { /* a browser that keeps nothing */ }
}

/** Bring back what was kept since the server was started; returns whether there was something. */
export function restore() {
  let kept = null;
  try { kept = JSON.parse(localStorage.getItem(KEPT)); } catch { /* as above */ }
  if (kept?.token !== state.token) return false;
  Object.assign(state, kept);
  return true;
}
