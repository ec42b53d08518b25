// The server's public API, as this page uses it.

export const APP = "fal-ai/hidream-e1-full";
const KEY = "hidream-edit key";

export class Refused extends Error {
  constructor(status, message, retryAfter) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

const authorisation = () => (key.get() ? { authorization: `Key ${key.get()}` } : {});

async function call(path, { headers = {}, ...options } = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: { ...authorisation(), ...headers } });
  } catch (problem) {
    if (problem.name === "AbortError") throw problem;
    throw new Refused(0, "The server cannot be reached.");
  }
  if (!response.ok) throw new Refused(response.status, await reason(response), Number(response.headers.get("retry-after")) || null);
  return response;
}

async function reason(response) {
  try {
    const { detail } = await response.json();
    if (typeof detail === "string") return detail;
    return detail.map((one) => [one.loc?.slice(1).join("."), one.msg].filter(Boolean).join(": ")).join("; ");
  } catch {
    return `The server answered ${response.status}.`;
  }
}

const json = async (path, options) => (await call(path, options)).json();
const asJson = (body) => ({ method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
const requestPath = (id) => `/queue/${APP}/requests/${encodeURIComponent(id)}`;

export const about = () => json("/v1/about");
export const inputSchema = async () => (await json("/openapi.json")).components.schemas.HidreamE1FullInput;
export const requests = (query) => json(`/v1/requests?${new URLSearchParams(query)}`);
export const overview = () => json("/admin/overview");
export const redeliver = (id) => call(`/admin/deliveries/${encodeURIComponent(id)}/redeliver`, { method: "POST" });

// Stores a file and returns its address.
export async function upload(file) {
  const name = { content_type: file.type || "application/octet-stream", file_name: file.name || "picture" };
  const place = await json("/storage/upload/initiate", asJson(name));
  const here = new URL(place.upload_url);
  await call(here.pathname + here.search, { method: "PUT", body: file, headers: { "content-type": name.content_type } });
  return place.file_url;
}

// An address that an <img> can load: of a private file, a signed one.
export async function viewable(url) {
  const here = new URL(url, location);
  if (here.origin !== location.origin || here.search || (await fetch(here, { method: "HEAD" })).ok) return url;
  return (await json(`${here.pathname}/sign`, asJson({}))).url;
}

export async function submit(input) {
  const options = asJson(input);
  options.headers["x-hidream-previews"] = "1";
  return (await json(`/queue/${APP}`, options)).request_id;
}

export const cancel = (id) => call(`${requestPath(id)}/cancel`, { method: "PUT" });
export const result = (id) => json(requestPath(id));
export const status = (id) => json(`${requestPath(id)}/status`);

// Statuses with log lines and previews, until the request has ended.
export async function* follow(id, signal) {
  const response = await call(`${requestPath(id)}/status/stream?logs=1&previews=1`, { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) if (event.startsWith("data: ")) yield JSON.parse(event.slice(6));
  }
}
