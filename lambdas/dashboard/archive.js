// The archive browser: days with what they hold, the segments of a day, and their download.

import { get, now, segment } from "./api.js";
import { onChange, set, state } from "./state.js";
import { $, bytes, clock, count, day, foreign, h, instant, problem, short, some } from "./text.js";

const DAY_MS = 864e5;
const NAMES = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];
const WEEK = ["Mo", "Tu", "We", "Th", "Fr", "Sa", "Su"];
const PAGE = 200;
let days = new Map(), year = 0, request = null, busy = false, focusDay = "";

const dateText = (ms) => new Date(ms).toISOString().slice(0, 10);
const today = () => dateText(now());

/** Read the year that holds the chosen day (or today), and show it. */
export async function open() {
  const box = $("archive");
  if (!box.firstChild) frame(box);
  await readYear(Number((state.day || today()).slice(0, 4)), !state.day);
}

function frame(box) {
  box.append(
    h("div", { class: "head" }, h("h1", {}, "Archive"), h("p", { class: "muted", id: "archive-total" })),
    h("div", { class: "two" },
      h("div", { class: "panel" },
        h("div", { class: "bar" }, h("button", { "aria-label": "The year before", onclick: () => readYear(year - 1) }, "‹"), h("h2", { id: "year", "aria-live": "polite" }), h("button", { "aria-label": "The next year", onclick: () => readYear(year + 1) }, "›"), h("button", { onclick: () => { set({ day: "" }); readYear(Number(today().slice(0, 4)), true); } }, "Today")),
        h("div", { id: "strip", "aria-hidden": "true" }),
        h("div", { class: "bar months", id: "months", role: "group", "aria-label": "Month" }),
        h("div", { id: "calendar" })),
      h("div", { class: "panel", id: "segments", "aria-live": "polite" })),
  );
}

async function readYear(wanted, jump = false) {
  request?.abort();
  const mine = (request = new AbortController());
  year = wanted;
  busy = true;
  $("year").textContent = year;
  try {
    const answer = await get("v1/archive/days", { from: `${year}-01-01T00:00:00Z`, to: `${year + 1}-01-01T00:00:00Z` }, mine.signal);
    days = new Map(answer.days.map((one) => [one.date, one]));
    if (jump && !days.size) {
      const some = await get("v1/archive/segments", { limit: 1 }, mine.signal).catch(() => ({ segments: [] }));
      const found = some.segments[0]?.date;
      if (found && found.slice(0, 4) !== String(year)) return readYear(Number(found.slice(0, 4)));
    }
  } catch (error) {
    if (error.name === "AbortError") return;
    problem($("segments"), error, () => readYear(wanted, jump));
    days = new Map();
  }
  busy = false;
  const newest = [...days.keys()].sort().at(-1);
  const day = state.day.startsWith(year + "-") ? state.day : newest || "";
  focusDay = day || (today().startsWith(String(year)) ? today() : `${year}-01-01`);
  showYear();
  if (day && day !== state.day) set({ day });
  else showDay();
}

const level = (one, most) => (one ? 1 + Math.min(3, Math.floor((Math.log1p(one.size_bytes) / Math.log1p(most)) ** 4 * 4)) : 0);

function showYear() {
  const list = [...days.values()];
  const most = Math.max(1, ...list.map((one) => one.size_bytes));
  const sum = (name) => list.reduce((total, one) => total + one[name], 0);
  $("year").textContent = year;
  $("archive-total").textContent = list.length ? `${year}: ${some(list.length, "day")}, ${some(sum("segments"), "segment")}, ${short(sum("rows"))} rows, ${bytes(sum("size_bytes"))}` : `Nothing is archived in ${year}. Readings come here when their slot is due; \`thermocline expire\` hurries a local stack.`;
  const first = Date.UTC(year, 0, 1), lead = (new Date(first).getUTCDay() + 6) % 7;
  const cells = [];
  for (let ms = first; ms < Date.UTC(year + 1, 0, 1); ms += DAY_MS) {
    const place = (ms - first) / DAY_MS + lead;
    const one = days.get(dateText(ms));
    cells.push(h("svg:rect", { class: `l${level(one, most)}`, x: Math.floor(place / 7) * 10, y: (place % 7) * 10, width: 8.5, height: 8.5, rx: 1.5 }));
  }
  $("strip").replaceChildren(h("svg:svg", { viewBox: "0 0 540 70" }, ...cells));
  $("months").replaceChildren(...NAMES.map((name, i) => {
    const key = `${year}-${String(i + 1).padStart(2, "0")}`;
    return h("button", { "aria-pressed": String(focusDay.startsWith(key)), class: list.some((one) => one.date.startsWith(key)) ? "has" : null, "aria-label": name, onclick: () => { focusDay = `${key}-01`; showYear(); } }, name.slice(0, 3));
  }));
  calendar(most);
}

function calendar(most) {
  const [y, m] = focusDay.split("-").map(Number);
  const first = Date.UTC(y, m - 1, 1), end = Date.UTC(y, m, 1), lead = (new Date(first).getUTCDay() + 6) % 7;
  const rows = [];
  for (let start = first - lead * DAY_MS; start < end; start += 7 * DAY_MS)
    rows.push(h("tr", {}, ...WEEK.map((_, i) => {
      const ms = start + i * DAY_MS;
      return ms < first || ms >= end ? h("td") : cell(dateText(ms), most);
    })));
  $("calendar").replaceChildren(h("table", { class: "month", "aria-label": `${NAMES[m - 1]} ${y}` }, h("thead", {}, h("tr", {}, ...WEEK.map((name) => h("th", { scope: "col" }, name)))), h("tbody", { onkeydown: walk }, ...rows)));
}

function cell(date, most) {
  const one = days.get(date);
  const said = one ? `${date}: ${count(one.rows)} rows, ${bytes(one.size_bytes)}, ${some(one.segments, "segment")}` : `${date}: nothing archived`;
  return h("td", {}, h("button", { class: `day l${level(one, most)}`, "data-date": date, "aria-pressed": String(date === state.day), "aria-label": said, title: said, tabindex: date === focusDay ? "0" : "-1", onclick: () => { focusDay = date; set({ day: date }, true); } },
    h("b", {}, Number(date.slice(8))), one ? h("span", {}, short(one.rows)) : null, one ? h("small", {}, bytes(one.size_bytes)) : null));
}

function walk(event) {
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -7, ArrowDown: 7 }[event.key];
  if (!by) return;
  event.preventDefault();
  event.stopPropagation();
  const next = dateText(Date.parse(focusDay) + by * DAY_MS);
  if (!next.startsWith(String(year))) return;
  focusDay = next;
  showYear();
  $("calendar").querySelector(`[data-date="${next}"]`)?.focus();
}

let dayRequest = null;
async function showDay() {
  const box = $("segments"), date = state.day;
  dayRequest?.abort();
  if (!date) { if (!busy && !box.querySelector(".problem")) box.replaceChildren(h("p", { class: "empty" }, days.size ? "Choose a day." : "No segment in this year.")); return; }
  const mine = (dayRequest = new AbortController());
  const found = [];
  let cursor = null, truncated = false;
  try {
    const from = `${date}T00:00:00Z`, to = dateText(Date.parse(date) + DAY_MS) + "T00:00:00Z";
    const answer = await get("v1/archive/segments", { from, to, limit: PAGE, cursor }, mine.signal);
    found.push(...answer.segments.filter((one) => one.date === date).sort((a, b) => (a.from < b.from ? -1 : 1)));
    truncated = answer.truncated;
  } catch (error) {
    if (error.name !== "AbortError") problem(box, error, showDay);
    return;
  }
  const total = (name) => found.reduce((sum, one) => sum + (one[name] || 0), 0);
  box.replaceChildren(
    h("h2", {}, date),
    h("p", { class: "muted" }, found.length ? `${truncated ? "The first " : ""}${some(found.length, "segment")}, ${count(total("rows"))} rows, ${bytes(total("size_bytes"))}` : "Nothing is archived for this day."),
    found.length ? h("div", { class: "scroll" }, h("table", { class: "list" },
      h("caption", { class: "sr" }, `Segments of ${date}`),
      h("thead", {}, h("tr", {}, ...["Readings", "Rows", "Size", ""].map((name, i) => h("th", { scope: "col", class: i === 1 || i === 2 ? "num" : null }, name)))),
      h("tbody", {}, ...found.map(segmentRow)))) : "",
  );
}

function segmentRow(one) {
  const at = (text) => { const ms = Date.parse(text); return day(ms) === one.date ? clock(ms) : instant(ms, false); };
  const sensors = one.first_sensor ? [foreign(one.first_sensor), one.last_sensor !== one.first_sensor ? " … " : null, one.last_sensor !== one.first_sensor ? foreign(one.last_sensor) : null] : ["not shown to this token"];
  const button = h("button", { onclick: () => download(one, button) }, "Download");
  return h("tr", { title: `${one.name}\nsha256 ${one.sha256 || "–"}\nuploaded ${one.uploaded || "–"}` },
    h("td", { class: "wide" }, `${at(one.from)} – ${at(one.to)}`, h("small", {}, ...sensors.filter(Boolean))), h("td", { class: "num" }, count(one.rows)), h("td", { class: "num" }, bytes(one.size_bytes)), h("td", {}, button));
}

async function download(one, button) {
  button.disabled = true;
  try {
    const { url } = await get(`v1/archive/segments/${segment(one.id)}/download`);
    if (!/^https?:\/\//.test(url)) throw Object.assign(new Error(), { title: "The link cannot be followed", detail: "" });
    h("a", { href: url, download: one.name?.split("/").at(-1) || one.id + ".parquet", rel: "noreferrer" }).click();
  } catch (error) {
    button.after(h("p", { class: "problem" }, `${error.title}. ${error.detail || ""}`));
  }
  button.disabled = false;
}

onChange((changed) => {
  if (!changed.has("day") || state.view !== "archive" || !$("archive").firstChild) return;
  if (state.day && Number(state.day.slice(0, 4)) !== year) { readYear(Number(state.day.slice(0, 4))); return; }
  if (state.day) focusDay = state.day;
  showYear();
  showDay();
});
