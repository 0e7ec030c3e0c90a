// The view's state, which is the address's fragment: read from it, written to it, told to whoever listens.

import { setToken } from "./api.js";
import { duration, iso } from "./text.js";

export const VIEWS = ["sensors", "chart", "archive", "rejects", "cost"];
export const MOST_SENSORS = 8;
const changes = new EventTarget();
let writing = false;

/** `metrics` null: chosen by the chart. `range` is a duration text; `from` and `to` (ms) stand instead of it. */
export const state = { view: "chart", sensors: [], metrics: null, range: "1h", from: null, to: null, detail: "auto", filter: "", day: "", reason: "", since: "7d" };

export const onChange = (listener) => changes.addEventListener("change", (event) => listener(event.detail));

/** Change members, tell, and write the address; `push` makes it a step of the browser's history. */
export function set(members, push = false) {
  const changed = Object.keys(members).filter((name) => JSON.stringify(members[name]) !== JSON.stringify(state[name]));
  if (!changed.length) return;
  Object.assign(state, members);
  const address = "#" + written();
  if (address !== location.hash) history[push ? "pushState" : "replaceState"](null, "", address);
  changes.dispatchEvent(new CustomEvent("change", { detail: new Set(changed) }));
}

function written() {
  const found = new URLSearchParams({ view: state.view });
  const put = (name, text, usual = "") => text !== usual && found.set(name, text);
  put("s", state.sensors.join(","));
  if (state.metrics) put("m", state.metrics.join(","));
  if (state.from != null) { found.set("from", iso(state.from)); found.set("to", iso(state.to)); }
  else put("r", state.range, "1h");
  put("every", state.detail, "auto");
  put("q", state.filter);
  put("day", state.day);
  put("reason", state.reason);
  put("since", state.since, "7d");
  return found.toString().replaceAll("%2C", ",").replaceAll("%3A", ":").replaceAll("%2F", "/");
}

function read() {
  const found = new URLSearchParams(location.hash.slice(1));
  const token = found.get("token");
  if (token) setToken(token);
  const list = (name) => [...new Set((found.get(name) || "").split(",").filter(Boolean))];
  const from = Date.parse(found.get("from") || ""), to = Date.parse(found.get("to") || "");
  const isSpan = from < to;
  const given = {
    view: VIEWS.includes(found.get("view")) ? found.get("view") : "chart",
    sensors: list("s").slice(0, MOST_SENSORS),
    metrics: found.has("m") ? list("m") : null,
    range: duration(found.get("r") || "") ? found.get("r") : "1h",
    from: isSpan ? from : null,
    to: isSpan ? to : null,
    detail: found.get("every") || "auto",
    filter: found.get("q") || "",
    day: /^\d{4}-\d\d-\d\d$/.test(found.get("day") || "") ? found.get("day") : "",
    reason: found.get("reason") || "",
    since: duration(found.get("since") || "") ? found.get("since") : "7d",
  };
  return { token, given };
}

/** Read the address. A token in it is kept for this tab and leaves the address at once. */
export function start() {
  const { token, given } = read();
  Object.assign(state, given);
  if (token || !location.hash) history.replaceState(null, "", "#" + written());
  addEventListener("popstate", () => {
    const { token, given } = read();
    if (token) { history.replaceState(null, "", "#" + written()); location.reload(); return; }
    // A link to a view alone keeps what is charted.
    const names = new Set(new URLSearchParams(location.hash.slice(1)).keys());
    if (names.size <= 1) for (const name of Object.keys(given)) if (name !== "view") given[name] = state[name];
    set(given);
    history.replaceState(null, "", "#" + written());
  });
}
