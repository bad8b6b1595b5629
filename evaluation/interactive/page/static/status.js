// The one line that says what is going on, or what went wrong.

const line = document.getElementById("status");

export function say(text, bad = false) {
  line.textContent = text;
  line.classList.toggle("bad", bad);
}

/** Take back what was said, if it begins so. */
export function unsay(start) {
  if (line.textContent.startsWith(start)) say("");
}

export const isComplaint = () => line.classList.contains("bad");

/** A function whose error is told to the person. */
export const guarded = work => async (...given) => { try { await work(...given); } catch (error) { say(error.message, true); } };
