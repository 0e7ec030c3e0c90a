// The page: views, keys, theme, zone, the token, and what goes wrong with any of them.

import { events, hasToken, setToken, status } from "./api.js";
import * as explore from "./explore.js";
import * as sensors from "./sensors.js";
import { onChange, set, start, state, VIEWS } from "./state.js";
import { $, zone } from "./text.js";

const VIEW_KEYS = ["chart", "archive", "rejects", "cost"];
/** Views that are loaded when they are first asked for. */
const OTHERS = ["archive", "rejects", "cost"];

function showView() {
  document.body.dataset.view = state.view;
  for (const view of VIEWS) if (view !== "sensors") $(view).hidden = view !== state.view && !(view === "chart" && state.view === "sensors");
  for (const link of document.querySelectorAll("nav a")) link.dataset.to === state.view ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  title();
}

function title() {
  document.title = `${state.view === "chart" && state.sensors.length ? state.sensors.map(sensors.nameOf).join(", ") : state.view[0].toUpperCase() + state.view.slice(1)} · Thermocline`;
}

// --- theme and zone ---------------------------------------------------------------------

const remember = (name, text) => { try { localStorage.setItem("thermocline." + name, text); } catch { /* not kept */ } };

function theme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  remember("theme", root.dataset.theme);
  explore.repaint();
}

function changeZone() {
  zone.utc = !zone.utc;
  remember("zone", zone.utc ? "utc" : "local");
  $("zone").textContent = zone.utc ? "UTC" : "Local";
  explore.repaint();
  enter(false);
}

// --- the token --------------------------------------------------------------------------

function ask(why) {
  const dialog = $("token-dialog");
  $("token-why").textContent = why;
  if (!dialog.open) dialog.showModal();
}

async function begin() {
  if (!hasToken()) { ask("This page reads with a token, and has none yet."); return; }
  status().then(() => banner(null), banner);
  enter();
}

/** What a view needs when it is shown. The chart reads by itself once it has sensors. */
function enter(first = true) {
  if (!hasToken()) return;
  if (OTHERS.includes(state.view)) import(`./${state.view}.js`).then((view) => view.open(), banner);
  if (!["chart", "sensors"].includes(state.view) || !(first || !sensors.listed())) return;
  sensors.refresh(true).catch(banner);
  if (first && state.sensors.length) explore.reload();
}

function banner(problem) {
  const box = $("banner");
  box.hidden = !problem || problem.status === 401;
  box.textContent = problem ? `${problem.title || problem.message}. ${problem.detail || ""}` : "";
}

// --- keys -------------------------------------------------------------------------------

const KEYS = {
  "/": () => { if (!["chart", "sensors"].includes(state.view) || innerWidth < 900) set({ view: innerWidth < 900 ? "sensors" : "chart" }, true); $("filter").focus(); $("filter").select(); },
  "?": () => $("help-dialog").showModal(),
  d: theme,
  u: changeZone,
  ArrowLeft: () => explore.pan(-0.25),
  ArrowRight: () => explore.pan(0.25),
  "+": () => explore.zoom(0.5),
  "=": () => explore.zoom(0.5),
  "-": () => explore.zoom(2),
  0: explore.toLive,
  p: explore.pause,
  Escape: explore.comeBack,
};
const OF_CHART = ["ArrowLeft", "ArrowRight", "+", "=", "-", "0", "p", "Escape"];

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const field = event.target.closest("input, select, textarea");
  if (field) { if (event.key === "Escape") field.blur(); return; }
  const view = VIEW_KEYS[event.key - 1];
  if (view) { set({ view }, true); return; }
  if (!(event.key in KEYS) || (OF_CHART.includes(event.key) && state.view !== "chart")) return;
  event.preventDefault();
  KEYS[event.key]();
}

// --- starting ---------------------------------------------------------------------------

try { zone.utc = localStorage.getItem("thermocline.zone") !== "local"; } catch { /* UTC */ }
start();
$("zone").textContent = zone.utc ? "UTC" : "Local";
$("zone").addEventListener("click", changeZone);
$("theme").addEventListener("click", theme);
$("help").addEventListener("click", () => $("help-dialog").showModal());
$("token-form").addEventListener("submit", () => { setToken($("token").value); $("token").value = ""; begin(); });
for (const link of document.querySelectorAll("nav a, .brand"))
  link.addEventListener("click", (event) => { if (event.ctrlKey || event.metaKey || event.shiftKey) return; event.preventDefault(); set({ view: link.dataset.to || "chart" }, true); });
$("token-dialog").addEventListener("cancel", (event) => { if (!hasToken()) event.preventDefault(); });
events.addEventListener("unauthorized", ({ detail }) => { setToken(""); ask(`The API did not take the token: ${detail.detail || detail.title}`); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => explore.repaint());
document.addEventListener("keydown", key);
onChange((changed) => {
  if (changed.has("view")) { showView(); enter(false); }
  title();
});
sensors.start((listed) => {
  title();
  banner(null);
  explore.noticed();
  if (state.sensors.length || !listed.length || state.filter) return;
  const first = listed.find((sensor) => sensor.latest) || listed[0];
  set({ sensors: [first.sensor_id] });
});
explore.start();
showView();
begin();
