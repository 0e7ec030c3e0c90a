// Elements and words: makes DOM nodes (text is always text) and writes numbers, sizes and times.

const SVG = "http://www.w3.org/2000/svg";

/** An element; `on…` members are listeners, null and false leave an attribute out. */
export function h(tag, members = {}, ...children) {
  const node = tag.startsWith("svg:") ? document.createElementNS(SVG, tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(members)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value != null && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child != null && child !== false));
  return node;
}

export const $ = (id) => document.getElementById(id);

// What moves a cursor or turns a line around is written as an escape.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;
export const plain = (text) =>
  String(text).replace(UNSEEN, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));

/** Foreign text: isolated, so that its direction changes nothing around it. */
export const foreign = (text, members) => h("bdi", members, plain(text));

/** What went wrong, in place of what was asked for, and the way to ask again. */
export function problem(box, error, again) {
  box.replaceChildren(h("div", { class: "problem" }, h("strong", {}, error.title), h("p", {}, error.detail || ""), h("button", { onclick: again }, "Try again")));
}

const precise = new Intl.NumberFormat("en", { maximumSignificantDigits: 5 });
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
export const some = (number, name) => `${count(number)} ${name}${number === 1 ? "" : "s"}`;
export const count = (value) => (value == null ? "–" : whole.format(value));

export function value(given) {
  if (given == null) return "–";
  if (typeof given !== "number") return plain(given);
  const size = Math.abs(given);
  return size !== 0 && (size < 1e-4 || size >= 1e9) ? given.toExponential(3) : precise.format(given);
}

const SIZES = ["B", "kB", "MB", "GB", "TB", "PB"];
function scaled(amount, step, names) {
  let place = 0;
  while (Math.abs(amount) >= step * 0.9995 && place < names.length - 1) { amount /= step; place++; }
  return (place ? amount.toFixed(amount < 99.95 ? 1 : 0) : whole.format(amount)) + names[place];
}
export const bytes = (amount) => (amount == null ? "–" : scaled(amount, 1000, SIZES.map((name) => " " + name)));
export const short = (amount) => (amount == null ? "–" : scaled(amount, 1000, ["", " k", " M", " G", " T"]));

const STEPS = [["y", 31536000], ["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
/** A length for people, in at most two units: `2 d 4 h`. */
export function length(seconds) {
  if (seconds == null) return "–";
  if (seconds < 1) return Math.round(seconds * 1000) + " ms";
  let first = STEPS.findIndex(([, size]) => seconds >= size);
  const [name, size] = STEPS[first];
  const units = Math.floor(seconds / size + 1e-9);
  const rest = seconds - units * size;
  const next = STEPS[first + 1];
  const more = next && units < 10 ? Math.floor(rest / next[1] + 1e-9) : 0;
  return more ? `${units} ${name} ${more} ${next[0]}` : `${units} ${name}`;
}
/** How long ago, in one unit: `12 min`. */
export function age(seconds) {
  if (seconds < 1) return "now";
  const [name, size] = STEPS.find(([, size]) => seconds >= size);
  return `${Math.floor(seconds / size)} ${name}`;
}

// --- times: milliseconds since the epoch, shown in UTC or in the browser's zone ---------

export const zone = { utc: true };
const two = (number) => String(number).padStart(2, "0");
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

export function parts(ms) {
  const date = new Date(ms);
  return zone.utc
    ? { y: date.getUTCFullYear(), mo: date.getUTCMonth(), d: date.getUTCDate(), h: date.getUTCHours(), mi: date.getUTCMinutes(), s: date.getUTCSeconds(), ms: date.getUTCMilliseconds() }
    : { y: date.getFullYear(), mo: date.getMonth(), d: date.getDate(), h: date.getHours(), mi: date.getMinutes(), s: date.getSeconds(), ms: date.getMilliseconds() };
}
export const day = (ms) => { const p = parts(ms); return `${p.y}-${two(p.mo + 1)}-${two(p.d)}`; };
export const dayMonth = (ms) => { const p = parts(ms); return `${p.d} ${MONTHS[p.mo]}`; };
export const monthYear = (ms) => { const p = parts(ms); return `${MONTHS[p.mo]} ${p.y}`; };
export function clock(ms, seconds = true, millis = false) {
  const p = parts(ms);
  return `${two(p.h)}:${two(p.mi)}` + (seconds ? ":" + two(p.s) : "") + (millis ? "." + String(p.ms).padStart(3, "0") : "");
}
export const instant = (ms, millis = ms % 1000 !== 0) => (ms == null || Number.isNaN(ms) ? "–" : `${day(ms)} ${clock(ms, true, millis)}`);
export const iso = (ms) => new Date(ms).toISOString().replace(".000Z", "Z");

const UNIT_MS = { y: 31536e6, w: 6048e5, d: 864e5, h: 36e5, m: 6e4, s: 1e3, ms: 1, us: 1e-3 };
/** `1h30m` in milliseconds, or null. */
export function duration(text) {
  if (!/^(\d+(\.\d+)?(us|ms|[ywdhms]))+$/.test(text)) return null;
  return [...text.matchAll(/(\d+(?:\.\d+)?)(us|ms|[ywdhms])/g)].reduce((sum, [, number, unit]) => sum + number * UNIT_MS[unit], 0);
}
/** The instant a text means, as the command line reads it, or null. Without a zone it is the one shown. */
export function moment(text, nowMs) {
  text = text.trim();
  if (text === "now") return nowMs;
  const relative = /^(?:now)?\s*([+-])\s*(\S+)$/.exec(text);
  if (relative) {
    const length = duration(relative[2]);
    return length == null ? null : relative[1] === "-" ? nowMs - length : nowMs + length;
  }
  if (/^\d{9,10}(\.\d+)?$/.test(text)) return text * 1000;
  if (/^\d{12,13}$/.test(text)) return +text;
  const found = /^(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d(?::\d\d(?:\.\d+)?)?)\s?([Zz]|[+-]\d\d:?\d\d)?)?$/.exec(text);
  if (!found) return null;
  const ms = Date.parse(`${found[1]}T${found[2] || "00:00"}${found[3] || (zone.utc ? "Z" : "")}`);
  return Number.isNaN(ms) ? null : ms;
}
