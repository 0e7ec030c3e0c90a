// The list of sensors: last value, age, sparkline, stale badge, filter, and which of them are charted.

import { get, hasToken, now, post } from "./api.js";
import { MOST_SENSORS, onChange, set, state } from "./state.js";
import { $, age, foreign, h, instant, iso, length, plain, value } from "./text.js";

const PAGE = 50;
const LATEST_EVERY_MS = 10_000, SPARK_EVERY_MS = 60_000, ABOUT_EVERY_MS = 25_000;
const SPARK_SPAN_MS = 3600_000, SPARK_WINDOW = "1m";
const STALE_STEPS = 5, STALE_LEAST_S = 60, STALE_UNKNOWN_S = 900;

const entries = new Map(); // sensor id -> {sensor, node, step}
const seen = new Map(); // sensor id -> sensor, and what metrics it has: also those that are charted and not listed
const asked = new Map(); // sensor id -> when it was asked about alone
let next = null, pages = 1, request = null, reading = false, sparkedAt = 0, announce = () => {}, note = "";

export const isNumber = (given) => typeof given === "number" || typeof given === "boolean";

/** Keep what an answer says of a sensor. What it sent before stays known: not every reading holds every metric. */
function keep(sensor) {
  const old = seen.get(sensor.sensor_id);
  if (old?.latest && (!sensor.latest || Date.parse(old.latest.timestamp) > Date.parse(sensor.latest.timestamp))) sensor.latest = old.latest;
  sensor.metrics = { ...old?.metrics };
  remember(sensor);
  seen.set(sensor.sensor_id, sensor);
  return sensor;
}

/** `metrics` says of each metric ever seen whether it held a number. */
function remember(sensor) {
  for (const [name, last] of Object.entries(sensor.latest?.metrics || {})) sensor.metrics[name] = isNumber(last);
}

/** What is known of a sensor: names, units, last values. One that is not listed is asked about, now and then again. */
export async function about(id) {
  if (seen.has(id) && (entries.has(id) || Date.now() - asked.get(id) < ABOUT_EVERY_MS)) return seen.get(id);
  asked.set(id, Date.now());
  // Ids are sorted: the first one that begins with this id is this id, if it is registered.
  const [sensor] = (await get("v1/sensors", { prefix: id, limit: 1, latest: "true" })).sensors;
  return keep(sensor?.sensor_id === id ? sensor : { sensor_id: id, latest: null });
}

export const known = (id) => seen.get(id);
export const nameOf = (id) => plain(seen.get(id)?.name || id);
export const unitOf = (id, metric) => seen.get(id)?.units?.[metric] || "";

/** The live chart saw newer values. */
export function noteLatest(id, timestampMs, metrics) {
  const sensor = seen.get(id);
  if (!sensor || (sensor.latest && Date.parse(sensor.latest.timestamp) > timestampMs)) return;
  sensor.latest = { timestamp: iso(timestampMs), metrics: { ...(sensor.latest?.metrics || {}), ...metrics } };
  remember(sensor);
  const entry = entries.get(id);
  if (entry) fill(entry);
}

function parameters() {
  const words = state.filter.split(/\s+/).filter(Boolean);
  return {
    prefix: words.find((word) => !word.startsWith("#")),
    label: words.filter((word) => /^#[^:]+:/.test(word)).map((word) => word.slice(1)),
  };
}

export const listed = () => entries.size > 0;

/** Read the pages shown again. `fresh` empties the list first. */
export async function refresh(fresh = false) {
  request?.abort();
  const mine = (request = new AbortController());
  if (fresh) { pages = 1; $("sensor-list").setAttribute("aria-busy", "true"); if (!entries.size) skeleton(); }
  const found = [];
  reading = true;
  try {
    let cursor = null;
    for (let page = 0; page < pages; page++) {
      const answer = await get("v1/sensors", { ...parameters(), limit: PAGE, latest: "true", cursor }, mine.signal);
      found.push(...answer.sensors);
      cursor = answer.next;
      if (!cursor) break;
    }
    next = cursor;
    note = "";
  } catch (error) {
    if (error.name === "AbortError") return;
    note = `${error.title}. ${error.detail || ""}`;
    $("sensor-list").removeAttribute("aria-busy");
    showMore();
    if (!entries.size) $("sensor-list").replaceChildren();
    throw error;
  } finally {
    if (request === mine) reading = false;
  }
  show(found);
  if (fresh || Date.now() - sparkedAt > SPARK_EVERY_MS) sparks(found, mine.signal);
  announce(found);
}

function skeleton() {
  $("sensor-list").replaceChildren(...Array.from({ length: 6 }, () => h("li", { class: "row skeleton", "aria-hidden": "true" })));
}

function show(sensors) {
  const list = $("sensor-list");
  list.removeAttribute("aria-busy");
  const before = document.activeElement?.dataset?.id;
  const nodes = sensors.map((sensor) => {
    const entry = entries.get(sensor.sensor_id) || { node: row(sensor.sensor_id), step: null };
    entry.sensor = keep(sensor);
    entries.set(sensor.sensor_id, entry);
    fill(entry);
    return entry.node;
  });
  for (const id of [...entries.keys()]) if (!sensors.some((sensor) => sensor.sensor_id === id)) entries.delete(id);
  const same = nodes.length === list.children.length && nodes.every((node, i) => node === list.children[i]);
  if (!same) list.replaceChildren(...nodes);
  if (before && before !== document.activeElement?.dataset?.id) entries.get(before)?.node.focus();
  mark();
  showMore();
}

function showMore() {
  const box = $("sensor-more");
  box.replaceChildren();
  if (note) { box.append(h("p", { class: "problem" }, note), h("button", { onclick: () => refresh(true).catch(() => {}) }, "Try again")); return; }
  if (!entries.size) {
    $("sensor-list").replaceChildren();
    if (state.filter) box.append(h("p", { class: "empty" }, "No sensor matches. A filter is the beginning of an id, or #key:value for a label."));
    else box.append(h("div", { class: "empty" }, h("p", {}, "No sensor yet. Send a first hour of readings:"), h("pre", {}, "thermocline simulate --sensors 20 --duration 1h"), h("p", { class: "muted" }, "or POST them to /v1/readings. Sensors appear here as they send.")));
  } else if (next) box.append(h("button", { onclick: () => { pages++; refresh().catch(() => {}); } }, `Show ${PAGE} more`));
}

// --- one row ----------------------------------------------------------------------------

function row(id) {
  const pick = (event) => {
    if (event.target.closest(".box") || event.ctrlKey || event.metaKey) toggle(id);
    else set({ sensors: [id], view: "chart" }, true);
  };
  return h("li", { class: "row", role: "option", tabindex: "-1", "data-id": id, onclick: pick });
}

function toggle(id) {
  const rest = state.sensors.filter((one) => one !== id);
  if (rest.length === state.sensors.length) rest.push(id);
  set({ sensors: rest.slice(-MOST_SENSORS) }, true);
}

function primary(sensor) {
  const metrics = sensor.latest?.metrics || {};
  const wanted = (state.metrics || []).find((name) => isNumber(metrics[name]));
  return wanted || Object.keys(metrics).find((name) => isNumber(metrics[name])) || Object.keys(metrics)[0];
}

function fill(entry) {
  const { sensor, node } = entry;
  const metric = primary(sensor);
  const last = metric === undefined ? null : sensor.latest.metrics[metric];
  const unit = sensor.units?.[metric] || "";
  if (!entry.spark) entry.spark = h("svg:svg", { class: "spark", viewBox: "0 0 60 20", preserveAspectRatio: "none", "aria-hidden": "true" });
  if (!entry.age) entry.age = h("span", { class: "age" });
  const named = sensor.name && sensor.name !== sensor.sensor_id;
  node.replaceChildren(
    h("span", { class: "box", title: "Add to the chart, or take off" }),
    h("span", { class: "name" }, foreign(named ? sensor.name : sensor.sensor_id)),
    h("span", { class: "last", title: metric && `${metric}, ${instant(Date.parse(sensor.latest.timestamp))}` }, value(last), unit ? h("small", {}, " " + plain(unit)) : null),
    h("span", { class: "id" }, [named && sensor.sensor_id, !unit && metric, ...(named ? [] : Object.entries(sensor.labels || {}).map(([key, text]) => `${key}:${plain(text)}`))].filter(Boolean).join(" · ")),
    entry.spark, entry.age,
  );
  tick(entry);
}

function tick({ sensor, node, age: shown, step }) {
  if (!sensor.latest) { shown.textContent = "no reading"; node.classList.add("stale"); return; }
  const old = Math.max(0, (now() - Date.parse(sensor.latest.timestamp)) / 1000);
  const stale = old > (step ? Math.max(STALE_LEAST_S, STALE_STEPS * step) : STALE_UNKNOWN_S);
  const text = age(old);
  if (shown.textContent !== text) shown.textContent = text;
  shown.title = stale ? `Stale: no reading for ${length(old)}` + (step ? `; usually one every ${length(step)}` : "") : instant(Date.parse(sensor.latest.timestamp));
  if (node.classList.contains("stale") !== stale) {
    node.classList.toggle("stale", stale);
    shown.setAttribute("aria-label", stale ? `stale, ${text}` : text);
  }
}

function mark() {
  let first = true;
  for (const [id, { node }] of entries) {
    const on = state.sensors.includes(id);
    node.setAttribute("aria-selected", on);
    node.tabIndex = -1;
    if (on && first) { node.tabIndex = 0; first = false; }
  }
  if (first) { const lead = $("sensor-list").querySelector(".row[data-id]"); if (lead) lead.tabIndex = 0; }
}

// --- sparklines: one query for the page -------------------------------------------------

async function sparks(sensors, signal) {
  const to = Math.ceil(now() / 60_000) * 60_000, from = to - SPARK_SPAN_MS;
  const fresh = sensors.filter((sensor) => sensor.latest && Date.parse(sensor.latest.timestamp) >= from && isNumber(sensor.latest.metrics[primary(sensor)])).slice(0, 100);
  sparkedAt = Date.now();
  if (!fresh.length) return;
  const body = { sensors: fresh.map((sensor) => sensor.sensor_id), from: iso(from), to: iso(to), metrics: [...new Set(fresh.map(primary))], every: SPARK_WINDOW, agg: ["mean", "count"], shape: "columns" };
  let answer;
  try { answer = await post("v1/query", body, signal, `sparklines of ${fresh.length} sensors`); } catch { return; }
  for (const result of answer.results) {
    const entry = entries.get(result.sensor_id);
    if (!entry) continue;
    const metric = primary(entry.sensor), ts = result.ts_us, means = result.columns[`${metric}_mean`] || [];
    const counts = (result.columns[`${metric}_count`] || []).reduce((sum, one) => sum + (one || 0), 0);
    if (counts > 2) entry.step = (ts.at(-1) - ts[0] + 60e6) / 1e6 / counts;
    entry.spark.replaceChildren(...trace(ts.map((us) => (us / 1000 - from) / SPARK_SPAN_MS), means));
    tick(entry);
  }
}

function trace(places, values) {
  const numbers = values.filter((one) => one != null);
  if (!numbers.length) return [];
  const low = Math.min(...numbers), high = Math.max(...numbers), span = high - low || 1;
  let path = "", before = -1;
  places.forEach((place, i) => {
    if (values[i] == null) return;
    const far = before < 0 || place - before > 3.5 / 60;
    path += `${far ? "M" : "L"}${(place * 60).toFixed(1)} ${(high === low ? 10 : 18 - ((values[i] - low) / span) * 16).toFixed(1)}`;
    before = place;
  });
  return [h("svg:path", { d: path })];
}

// --- starting ---------------------------------------------------------------------------

/** `listed` is called with the sensors after each refresh. */
export function start(listed) {
  announce = listed;
  const input = $("filter"), list = $("sensor-list");
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-multiselectable", "true");
  input.value = state.filter;
  let waiting = 0;
  input.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => set({ filter: input.value.trim() }), 200);
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "Enter") { list.querySelector(".row[data-id]")?.focus(); event.preventDefault(); }
  });
  list.addEventListener("keydown", (event) => {
    const at = event.target.closest(".row[data-id]");
    if (!at) return;
    const to = { ArrowDown: at.nextElementSibling, ArrowUp: at.previousElementSibling || input, Home: list.firstElementChild, End: list.lastElementChild }[event.key];
    if (to) to.focus();
    else if (event.key === "Enter") set({ sensors: [at.dataset.id], view: "chart" }, true);
    else if (event.key === " ") toggle(at.dataset.id);
    else if (event.key !== "ArrowDown") return;
    event.preventDefault();
    event.stopPropagation();
  });
  onChange((changed) => {
    if (changed.has("filter")) { if (input.value.trim() !== state.filter) input.value = state.filter; refresh(true).catch(() => {}); }
    if (changed.has("sensors")) mark();
    if (changed.has("metrics")) for (const entry of entries.values()) fill(entry);
  });
  setInterval(() => { if (!document.hidden) for (const entry of entries.values()) tick(entry); }, 1000);
  setInterval(() => { if (!document.hidden && !reading && hasToken() && ["chart", "sensors"].includes(state.view)) refresh().catch(() => {}); }, LATEST_EVERY_MS);
}
