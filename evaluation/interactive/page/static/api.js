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
export const fetchBlob = async (path, body) => (await request(path, body)).blob();
