// The API as this page uses it: one fetch with the token, problems as values, and a record of what answers cost.

export const events = new EventTarget();
export const costs = [];
const MOST_COSTS = 30;
const KEPT = "thermocline.token";
let token = "";
try { token = sessionStorage.getItem(KEPT) || ""; } catch { /* no storage: this page view only */ }
/** How far the server's clock is ahead of the browser's, in ms; 0 where that is not worth a correction. */
let aheadMs = 0;
export const now = () => Date.now() + aheadMs;

/** What the API (or the way to it) refused. `status` 0: no answer. */
export class Problem extends Error {
  constructor(status, title, detail, errors = []) {
    super(title);
    Object.assign(this, { status, title, detail, errors });
  }
}

export const hasToken = () => token !== "";
export function setToken(text) {
  token = text.trim();
  try { token ? sessionStorage.setItem(KEPT, token) : sessionStorage.removeItem(KEPT); } catch { /* as above */ }
}

export const get = (path, parameters, signal) => call("GET", path + query(parameters), undefined, signal);
export const post = (path, body, signal, what) => call("POST", path, body, signal, what);

function query(parameters = {}) {
  const found = new URLSearchParams();
  for (const [name, given] of Object.entries(parameters))
    for (const one of [given].flat()) if (one != null && one !== "") found.append(name, one);
  const text = found.toString();
  return text && "?" + text;
}

async function call(method, path, body, signal, what) {
  const headers = { Accept: "application/json" }, used = token;
  if (used) headers.Authorization = "Bearer " + used;
  if (body) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body && JSON.stringify(body), signal, cache: "no-store", credentials: "omit" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "The API does not answer", "Is it running? `thermocline status` says so where the stack runs.");
  }
  let found;
  try { found = await answer.json(); } catch (error) {
    if (error.name === "AbortError") throw error;
    found = {};
  }
  if (!answer.ok) {
    const problem = new Problem(answer.status, found.title || `The API answered ${answer.status}`, found.detail || found.message || "", found.errors);
    // An answer to the token before this one says nothing of this one.
    if (answer.status === 401 && used === token) events.dispatchEvent(new CustomEvent("unauthorized", { detail: problem }));
    throw problem;
  }
  if (found.cost && what) {
    costs.unshift({ what, at: now(), cost: found.cost });
    costs.length = Math.min(costs.length, MOST_COSTS);
    events.dispatchEvent(new Event("cost"));
  }
  return found;
}

export async function status(signal) {
  const asked = Date.now();
  const found = await get("v1/status", {}, signal);
  const server = Date.parse(found.now);
  const off = server - (asked + Date.now()) / 2;
  aheadMs = Math.abs(off) > 1500 ? off : 0;
  return found;
}

export const segment = (text) => encodeURIComponent(text);
