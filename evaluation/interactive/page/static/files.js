// A person's own files: chosen or dropped, sent to the server, opened there.

import {ask, sendFiles} from "./api.js";
import {open, offerSources, unread} from "./images.js";
import {say, guarded} from "./status.js";
import {state} from "./state.js";

const MOST_BYTES = 4 * 2 ** 30;  // as in routes.py

const $ = id => document.getElementById(id);

const send = guarded(async files => {
  if (!files.length) return;
  if (files.reduce((sum, file) => sum + file.size, 0) > MOST_BYTES) throw new Error("more than 4 GiB at once: open fewer files");
  const upload = await sendFiles(files, there =>
    say(files.length === 1 ? `sending ${files[0].name}…` : `sending ${files.length} files, ${there} are there…`));
  say(files.length === 1 ? `opening ${files[0].name}…` : `opening ${files.length} files…`);
  const {opened, problems} = await ask("/api/open", {upload});
  state.files = (await ask("/api/start")).files;
  offerSources();
  unread(problems);
  await open({image: opened[0].image});
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

$("open").addEventListener("click", () => $("files").click());
document.addEventListener("keydown", event => {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "o") { event.preventDefault(); $("files").click(); }
});
$("files").addEventListener("change", () => { send([...$("files").files]); $("files").value = ""; });
document.addEventListener("dragover", event => { event.preventDefault(); document.body.classList.add("drop"); });
document.addEventListener("dragleave", () => document.body.classList.remove("drop"));
document.addEventListener("drop", event => { event.preventDefault(); document.body.classList.remove("drop"); drop(event.dataTransfer); });
