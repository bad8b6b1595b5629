// Requests to the server of the page. An error's message is the one line that the server gives.

async function request(path, body) {
  const options = body === undefined ? {} : body instanceof FormData
    ? {method: "POST", body} : {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)};
  let reply;
  try { reply = await fetch(path, options); } catch { throw new Error("the server does not answer; is it still running?"); }
  if (!reply.ok) throw new Error((await reply.json().catch(() => ({}))).error || reply.statusText);
  return reply;
}

export const ask = async (path, body) => (await request(path, body)).json();
export const fetchBuffer = async path => (await request(path)).arrayBuffer();

/** A file: its content and the name that the server gives it, null where it gives none. */
export async function fetchBlob(path, body) {
  const reply = await request(path, body);
  const name = /filename="?([^";]+)/.exec(reply.headers.get("Content-Disposition") ?? "")?.[1] ?? null;
  return {blob: await reply.blob(), name};
}

/** Have the browser save a file. */
export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

const AT_ONCE = 32;  // files of a request: the server keeps each open while it reads the request

/** Send files; `sent` is told how many are there. Returns the name of the upload. */
export async function sendFiles(files, sent) {
  let upload;
  for (let first = 0; first < files.length; first += AT_ONCE) {
    const form = new FormData();
    if (upload) form.append("upload", upload);
    for (const file of files.slice(first, first + AT_ONCE)) form.append("files", file, file.name);
    sent(first);
    ({upload} = await ask("/api/files", form));
  }
  return upload;
}
