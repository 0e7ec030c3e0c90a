// The chart view: which readings are asked for and how finely, live polling, zoom and its way back, the legend.

import { now, post } from "./api.js";
import { Chart, hue } from "./chart.js";
import { about, isNumber, known, nameOf, noteLatest, unitOf } from "./sensors.js";
import { build, everyFor, everyText, Kept, lowerBound, MOST_RAW, summary } from "./series.js";
import { onChange, set, state } from "./state.js";
import { $, bytes, clock, duration, foreign, h, instant, iso, length, moment, plain, some, value } from "./text.js";

const RANGES = ["5m", "15m", "1h", "6h", "24h", "7d", "30d", "1y"];
const DETAILS = [["auto", "fits the screen"], ["raw", "every reading"], ["1s", "1 s"], ["10s", "10 s"], ["1m", "1 min"], ["10m", "10 min"], ["1h", "1 h"], ["1d", "1 d"]];
const POLL_MS = 1000, RELOAD_MS = 30_000, MOST_WAIT_MS = 10_000;
const LATE_S = 5, LATE_MOST_S = 600, AHEAD_S = 10;
const RAW_PAGE = 100_000, RAW_PAGES = 3, MOST_WINDOWS = 20_000, MOST_SPAN_MS = 9.9 * 31536e6;
const MOST_LINES = 12, FIRST_METRICS = 2;

let chart, kept = new Map(), loaded = null, lines = [], data = [[]], cursor = null;
let request = null, timer = 0, failures = 0, failedAt = 0, paused = false, loadedAt = 0, dead = null;
let sumsNow = [], chipped = "", shownLast = [];
const back = [], rates = new Map();

const isLive = () => state.from == null;
const spanNow = () => (isLive() ? [now() / 1000 - duration(state.range) / 1000, now() / 1000] : [state.from / 1000, state.to / 1000]);
const asText = (seconds) => new Date(Math.floor(seconds * 1000)).toISOString();

// --- asking -----------------------------------------------------------------------------

/** Seconds per window, 0 for readings as they are. */
function everyWanted(spanS) {
  if (state.detail === "raw") return 0;
  if (state.detail !== "auto") return (duration(state.detail) || 0) / 1000;
  const known = state.sensors.map((id) => rates.get(id)).filter((rate) => rate !== undefined);
  const few = known.length === state.sensors.length ? Math.max(...known) * spanS <= MOST_RAW : spanS <= 1800;
  return few ? 0 : everyFor(spanS, chart.pixels);
}

function body(from, to, everyS, limit) {
  return {
    sensors: state.sensors, from: asText(from), to: asText(to), metrics: metricsShown(), shape: "columns", tiers: true,
    ...(everyS ? { every: everyText(everyS), agg: ["mean", "min", "max", "count"], limit: MOST_WINDOWS } : { limit }),
  };
}

const what = (everyS) => `chart, ${state.sensors.length} × ${metricsShown().length}, ` + (everyS ? `windows of ${length(everyS)}` : "readings");

/** Everything in view, again. */
async function load() {
  clearTimeout(timer);
  request?.abort();
  const mine = (request = new AbortController());
  dead = null;
  if (!state.sensors.length) { kept = new Map(); loaded = null; draw(); return; }
  const slow = setTimeout(() => ($("progress").hidden = false), 150);
  try {
    await Promise.all(state.sensors.map(about));
    if (mine.signal.aborted) return;
    chips();
    const [from, to] = spanNow();
    const end = isLive() ? to + AHEAD_S : to;
    await fetchAll(from, end, everyWanted(to - from), mine.signal);
    loadedAt = Date.now();
    failures = 0;
  } catch (error) {
    if (error.name === "AbortError") return;
    failed(error);
  } finally {
    clearTimeout(slow);
    if (request === mine) $("progress").hidden = true;
  }
  if (request !== mine) return;
  draw();
  schedule();
}

/** `settled`: readings do not fit one answer, so windows they stay, however few they seem to hold. */
async function fetchAll(from, to, everyS, signal, settled = false) {
  const metrics = metricsShown();
  const fresh = new Map(state.sensors.map((id) => [id, new Kept()]));
  if (!metrics.length) { kept = fresh; loaded = { from, to, everyS, whole: true, answer: null }; return; }
  const limit = state.detail === "raw" ? RAW_PAGE : Math.min(RAW_PAGE, MOST_RAW * state.sensors.length);
  let answer = await post("v1/query", body(from, to, everyS, limit), signal, what(everyS));
  if (!everyS && answer.truncated && state.detail === "auto") {
    const [start, end] = spanNow();
    for (const id of state.sensors) rates.set(id, Infinity);
    await fetchAll(from, to, everyFor(end - start, chart.pixels), signal, true);
    return;
  }
  let hot = 0, cold = 0;
  for (let page = 1; ; page++) {
    for (const result of answer.results) {
      hot += result.hot_rows || 0;
      cold += result.cold_rows || 0;
      fresh.get(result.sensor_id)?.take(result, page === 1 || !result.ts_us?.length ? from : result.ts_us[0] / 1e6);
    }
    if (!answer.next || page >= (everyS ? 10 : RAW_PAGES)) break;
    answer = await post("v1/query", { ...body(from, to, everyS, limit), cursor: answer.next }, signal, what(everyS));
  }
  for (const [id, one] of fresh) rates.set(id, rate(one, everyS, to - from));
  const total = Math.max(0, ...[...fresh.values()].map((one) => counted(one, everyS)));
  if (everyS && !settled && state.detail === "auto" && total > 0 && total <= MOST_RAW / 2) { await fetchAll(from, to, 0, signal); return; }
  kept = fresh;
  loaded = { from, to, everyS, whole: !answer.next, hot, cold, answer, key: JSON.stringify([state.sensors, metrics, state.detail]) };
}

function counted(one, everyS) {
  if (!everyS) return one.ts.length;
  return Math.max(0, ...metricsShown().map((metric) => (one.columns.get(`${metric}_count`) || []).reduce((sum, n) => sum + (n || 0), 0)));
}

/** Readings a second, over what holds readings. */
function rate(one, everyS, spanS) {
  if (one.ts.length < 2) return one.ts.length / spanS;
  return counted(one, everyS) / Math.max(one.ts.at(-1) - one.ts[0] + everyS, spanS / 1000);
}

// --- live -------------------------------------------------------------------------------

function schedule(wait = POLL_MS) {
  clearTimeout(timer);
  if (isLive() && !paused && state.sensors.length && !dead) timer = setTimeout(poll, wait);
  pill();
}

/** What is new since the last point (and a little before it, for what came late). */
async function poll() {
  if (document.hidden || state.view !== "chart") return schedule();
  if (!loaded || !metricsShown().length || Date.now() - loadedAt > RELOAD_MS) return load();
  request?.abort();
  const mine = (request = new AbortController());
  const began = Date.now();
  const [start, end] = spanNow();
  const everyS = loaded.everyS;
  let from = Math.min(...state.sensors.map((id) => Math.max(kept.get(id)?.ts.at(-1) ?? 0, end - LATE_MOST_S, start))) - LATE_S;
  if (everyS) from = Math.floor(from / everyS) * everyS;
  from = Math.floor(Math.max(from, loaded.from) * 1000) / 1000;
  try {
    const answer = await post("v1/query", body(from, end + AHEAD_S, everyS, MOST_RAW * state.sensors.length), mine.signal, what(everyS) + ", what is new");
    if (answer.truncated) return load();
    for (const result of answer.results) {
      const one = kept.get(result.sensor_id);
      if (!one) continue;
      one.take(result, from);
      one.prune(start - (end - start) * 0.1);
    }
    loaded.answer = answer;
    failures = 0;
    tellLatest(everyS);
  } catch (error) {
    if (error.name === "AbortError") return;
    failed(error);
  }
  draw();
  schedule(failures ? Math.min(MOST_WAIT_MS, POLL_MS * 2 ** (failures - 1)) : Math.max(200, POLL_MS - (Date.now() - began)));
}

function tellLatest(everyS) {
  if (everyS) return;
  for (const [id, one] of kept) {
    const metrics = {};
    for (const [name, column] of one.columns) if (column.at(-1) != null) metrics[name] = column.at(-1);
    if (one.ts.length) noteLatest(id, one.ts.at(-1) * 1000, metrics);
  }
}

function failed(error) {
  if (!failures++) failedAt = now();
  if ([400, 401, 403, 404, 413, 422].includes(error.status)) dead = error;
  $("progress").hidden = true;
  loaded ||= { from: 0, to: 0, everyS: 0, whole: true, answer: null };
  loaded.problem = error;
}

function pill() {
  const button = $("live"), live = isLive() && !paused;
  const text = !isLive() ? "To live" : paused ? "Paused" : dead ? "Stopped" : failures ? `No answer since ${clock(failedAt)}` : "Live";
  if ($("live-text").textContent !== text) $("live-text").textContent = text;
  button.setAttribute("aria-pressed", live);
  button.title = failures && loaded?.problem ? `${loaded.problem.title}. ${loaded.problem.detail || ""}` : "Pause or go on (p)";
  button.className = failures ? "failing" : live ? "on" : "";
}

// --- what is shown ----------------------------------------------------------------------

function offered() {
  const names = new Set(state.metrics || []);
  const numeric = [];
  for (const id of state.sensors) {
    const found = known(id);
    for (const name of Object.keys(found?.units || {})) names.add(name);
    for (const [name, isOne] of Object.entries(found?.metrics || {})) {
      names.add(name);
      if (isOne && !numeric.includes(name)) numeric.push(name);
    }
    for (const name of kept.get(id)?.metrics || []) names.add(name);
  }
  return { names: [...names].sort(), numeric };
}

function metricsShown() {
  if (state.metrics) return state.metrics;
  const { numeric, names } = offered();
  return (numeric.length ? numeric : names).slice(0, FIRST_METRICS);
}

/** The list was read: metrics that came since the last answer are offered, and charted where they are chosen here. */
export function noticed() {
  if (!loaded || JSON.stringify(offered()) === chipped) return;
  const before = JSON.stringify(shownLast);
  chips();
  if (JSON.stringify(metricsShown()) !== before && state.view === "chart" && !paused && !chart.held) load();
}

function chips() {
  const { names, numeric } = offered();
  const shown = (shownLast = metricsShown());
  chipped = JSON.stringify({ names, numeric });
  const toggle = (name) => {
    const rest = shown.filter((one) => one !== name);
    set({ metrics: rest.length === shown.length ? [...shown, name] : rest });
  };
  $("metrics").replaceChildren(...names.map((name) =>
    h("button", { class: "chip", "aria-pressed": String(shown.includes(name)), onclick: () => toggle(name), title: numeric.includes(name) ? null : "Holds text, or has no value of late" }, foreign(name))));
}

function draw() {
  pill();
  const [from, to] = spanNow();
  const metrics = metricsShown();
  const everyS = loaded?.everyS || 0;
  lines = [];
  for (const id of state.sensors) for (const metric of metrics) {
    const one = kept.get(id);
    const column = one?.columns.get(everyS ? metric + "_mean" : metric) || one?.columns.get(metric + "_");
    if (!one || !column?.some(isNumber) || lines.length >= MOST_LINES) continue;
    lines.push({ key: `${id} ${metric}`, id, metric, kept: one, unit: unitOf(id, metric) || one.units[metric] || "", scale: unitOf(id, metric) || one.units[metric] || metric });
  }
  fillInputs(from, to);
  const empty = !lines.length;
  data = empty ? [[]] : build(lines, everyS);
  if (empty) {
    chart.clear();
    chart.view = [from, to];
  } else chart.show(lines, data, everyS > 0, [from, to]);
  const rows = state.sensors.filter((id) => kept.get(id)?.tiers.length).map((id) => ({ name: id, tiers: kept.get(id).tiers }));
  chart.ribbon(empty ? [] : rows);
  tierText(rows);
  note(empty);
  legend();
  answerText();
  $("back").disabled = !back.length;
}

function note(empty) {
  const box = $("plot-note"), problem = failures ? loaded?.problem : null;
  box.hidden = !(empty || (problem && dead));
  box.className = problem ? "problem" : "";
  if (problem && (empty || dead)) {
    box.replaceChildren(h("strong", {}, problem.title), h("p", {}, problem.detail || ""), h("button", { onclick: () => { failures = 0; load(); } }, "Try again"));
  } else if (!state.sensors.length) box.replaceChildren(h("p", {}, "Choose a sensor in the list; the box beside it adds one to the chart."));
  else if (!loaded) box.replaceChildren(h("p", { class: "muted" }, "Reading …"));
  else if (!metricsShown().length) box.replaceChildren(h("p", {}, "Choose a metric above."));
  else {
    const last = Math.max(...state.sensors.map((id) => Date.parse(known(id)?.latest?.timestamp || "") || 0));
    const hold = metricsShown().some((metric) => [...kept.values()].some((one) => one.columns.get(metric)?.some((v) => v != null)));
    box.replaceChildren(
      h("p", {}, hold ? "These metrics hold text here, which has no line." : "No readings in this range."),
      last && !hold ? h("button", { onclick: () => go(last - duration(state.range) / 2, last + duration(state.range) / 2) }, `To the last one, ${instant(last)}`) : "",
    );
  }
}

function legend() {
  const body = $("legend").tBodies[0], step = chart.banded ? 3 : 1;
  $("legend").hidden = !lines.length;
  const [from, to] = chart.view;
  const sums = [];
  body.replaceChildren(...lines.map((one, i) => {
    const mean = data[1 + i * step], low = step === 3 ? data[2 + i * 3] : mean, high = step === 3 ? data[3 + i * 3] : mean;
    const found = summary(data[0], mean, low, high, from, to);
    sums.push(found);
    const off = chart.hidden.has(one.key);
    const swatch = h("button", { class: "swatch", "aria-pressed": String(!off), "aria-label": `Show ${one.id} ${one.metric}`, title: "Show or hide", onclick: () => { chart.toggle(one.key); legend(); } });
    swatch.style.setProperty("--hue", `var(${hue(i)})`);
    return h("tr", { class: off ? "off" : null },
      h("th", { scope: "row" }, swatch, foreign(nameOf(one.id)), " ", h("span", { class: "metric" }, one.metric)),
      h("td", { class: "num at" }), ...["min", "mean", "max"].map((name) => h("td", { class: "num more" }, value(found?.[name]))), h("td", {}, plain(one.unit)));
  }));
  sumsNow = sums;
  atCursor(cursor);
  $("plot-text").textContent = lines.map((one, i) => sums[i] ? `${nameOf(one.id)}, ${one.metric}: ${value(sums[i].min)} to ${value(sums[i].max)} ${plain(one.unit)}, last ${value(sums[i].last)}.` : "").join(" ");
}

function atCursor(index) {
  cursor = index;
  const step = chart.banded ? 3 : 1, cells = $("legend").querySelectorAll("td.at");
  const everyS = loaded?.everyS || 0;
  $("at-cursor").textContent = index == null || !data[0].length ? "Last" : instant(Math.round((data[0][index] - everyS / 2) * 1000));
  cells.forEach((cell, i) => {
    if (index == null) { cell.textContent = value(sumsNow[i]?.last); return; }
    const column = data[1 + i * step];
    let at = index;
    while (column?.[at] === undefined && at > 0 && index - at < 50) at--;
    const now = value(column?.[at] ?? null);
    cell.textContent = step === 3 && column?.[at] != null ? `${now} (${value(data[2 + i * 3][at])} … ${value(data[3 + i * 3][at])})` : now;
  });
}

function answerText() {
  const found = loaded?.answer;
  if (!found) { $("answer").textContent = ""; return; }
  const points = [...kept.values()].reduce((sum, one) => sum + one.ts.length, 0);
  const kind = loaded.everyS ? `${some(points, "window")} of ${length(loaded.everyS)}` : some(points, "reading");
  const cost = found.cost;
  $("answer").textContent = (loaded.whole ? "" : "Cut: zoom in for the rest. ") + kind +
    (cost ? ` · last query: ${some(cost.items, "item")}, ${cost.read_units.toFixed(1)} read units, ${some(cost.objects, "object")}, ${bytes(cost.bytes)}, ${Math.round(cost.ms)} ms` : "");
}

function tierText(rows) {
  const list = $("tier-text").querySelector("ul");
  $("tier-text").hidden = !rows.length;
  const said = [];
  const items = rows.flatMap((row) => row.tiers.map((one) => [row.name, one]));
  list.replaceChildren(...items.slice(-60).map(([name, one]) => h("li", { "data-tier": one.tier },
    h("i", { class: `tier ${one.tier}` }), rows.length > 1 ? foreign(nameOf(name), { class: "metric" }) : null, ` ${one.tier}: ${instant(Math.floor(one.from * 1000), false)} to ${instant(Math.floor(one.to * 1000), false)}`)));
  for (const row of rows) {
    const total = {};
    for (const one of row.tiers) total[one.tier] = (total[one.tier] || 0) + one.to - one.from;
    said.push(`${nameOf(row.name)}: ` + Object.entries(total).map(([tier, seconds]) => `${tier} ${length(seconds)}`).join(", "));
  }
  $("ribbon").setAttribute("aria-label", "Tiers the readings came from. " + said.join("; "));
}

// --- moving -----------------------------------------------------------------------------

const place = () => ({ from: state.from, to: state.to, range: state.range });

/** Show the span (ms) and remember the way back. */
export function go(from, to, remember = true) {
  if (!(to > from)) return;
  if (remember) { back.push(place()); back.splice(0, back.length - 50); }
  set({ from: Math.round(from), to: Math.max(Math.round(to), Math.round(from) + 1) });
}

export function comeBack() {
  const before = back.pop();
  if (before) set(before);
  else if (!isLive()) set({ from: null, to: null });
  return true;
}

function moved(from, to) {
  if (isLive()) back.push(place());
  go(from * 1000, to * 1000, false);
}

/** A raw, whole answer serves every view inside it. */
const covered = (from, to) => loaded && !loaded.everyS && loaded.whole && loaded.from <= from && loaded.to >= to &&
  loaded.key === JSON.stringify([state.sensors, metricsShown(), state.detail]);

let waiting = 0;
function rangeChanged() {
  clearTimeout(waiting);
  clearTimeout(timer);
  request?.abort();
  const [from, to] = spanNow();
  chart.look(from, to);
  fillInputs(from, to);
  $("back").disabled = !back.length;
  pill();
  marks();
  const settle = () => {
    if (chart.held) { waiting = setTimeout(settle, 120); return; }
    if (!isLive() && covered(from, to)) { legend(); answerText(); } else load();
  };
  waiting = setTimeout(settle, 120);
}

export function pan(share) { const [from, to] = chart.view; const by = (to - from) * share; moved(from + by, to + by); }
export function zoom(scale) {
  const [from, to] = chart.view, middle = isLive() ? to : (from + to) / 2;
  if ((to - from) * scale < 0.01 || (to - from) * scale * 1000 > MOST_SPAN_MS) return;
  go((middle - (middle - from) * scale) * 1000, (middle + (to - middle) * scale) * 1000);
}
export function toLive() { back.length = 0; paused = false; set({ from: null, to: null }); schedule(0); }
export function pause() {
  if (!isLive()) return toLive();
  paused = !paused;
  if (paused) { clearTimeout(timer); request?.abort(); pill(); } else { failures = 0; load(); }
}

function fillInputs(from, to) {
  const form = $("span-form"); // while somebody writes there nothing is written over it
  if (form.contains(document.activeElement) && form.dataset.written) return;
  delete form.dataset.written;
  for (const [id, seconds, live] of [["from", from, "-" + state.range], ["to", to, "now"]]) {
    const input = $(id);
    if (document.activeElement === input) continue;
    input.value = isLive() ? live : instant(Math.round(seconds * 1000), false);
    input.removeAttribute("aria-invalid");
  }
}

function marks() {
  for (const button of $("ranges").children) button.setAttribute("aria-pressed", String(isLive() && button.dataset.range === state.range));
}

/** Everything again in other colours or another zone. */
export function repaint() { chart.again(); if (lines.length) draw(); }
export const reload = () => load();

export function start() {
  chart = new Chart($("plot"), { zoom: (from, to) => go(from * 1000, to * 1000), pan: moved, back: comeBack, cursor: atCursor });
  $("ranges").replaceChildren(...RANGES.map((range) => h("button", { "data-range": range, onclick: () => { back.length = 0; paused = false; set({ range, from: null, to: null }); } }, range)));
  $("detail").replaceChildren(...DETAILS.map(([name, text]) => h("option", { value: name }, text)));
  if (!DETAILS.some(([name]) => name === state.detail)) $("detail").append(h("option", { value: state.detail }, state.detail));
  $("detail").value = state.detail;
  $("detail").addEventListener("change", () => set({ detail: $("detail").value }));
  $("back").addEventListener("click", comeBack);
  $("live").addEventListener("click", pause);
  $("span-form").addEventListener("input", () => { $("span-form").dataset.written = "yes"; });
  $("span-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const from = moment($("from").value, now()), to = moment($("to").value, now());
    const late = from != null && to != null && from >= to;
    for (const [id, wrong] of [["from", from == null || late], ["to", to == null]]) wrong ? $(id).setAttribute("aria-invalid", "true") : $(id).removeAttribute("aria-invalid");
    if (from == null || to == null || late) return;
    $("plot-box").focus();
    const relative = /^-(\S+)$/.exec($("from").value.trim());
    if (relative && $("to").value.trim() === "now") set({ range: relative[1], from: null, to: null });
    else go(from, to);
    fillInputs(...spanNow());
  });
  onChange((changed) => {
    if (["sensors", "metrics", "detail"].some((name) => changed.has(name))) {
      $("detail").value = state.detail;
      if (changed.has("sensors")) { for (const id of kept.keys()) if (!state.sensors.includes(id)) kept.delete(id); failures = 0; }
      const same = !changed.has("sensors") && !changed.has("detail");
      if (same) chips();
      load();
    } else if (["from", "to", "range"].some((name) => changed.has(name))) rangeChanged();
    else if (changed.has("view") && state.view === "chart") { chart.resize(); load(); }
    if (changed.has("view") && state.view !== "chart") clearTimeout(timer);
    marks();
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden && state.view === "chart" && isLive() && !paused) schedule(0); });
  marks();
}
