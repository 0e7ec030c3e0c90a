// The rejects: what was refused, why, and the bytes themselves.

import { get, now, segment } from "./api.js";
import { onChange, set, state } from "./state.js";
import { $, bytes, clock, count, day, duration, foreign, h, iso, plain, problem } from "./text.js";

const SINCE = ["24h", "7d", "30d", "1y"];
const PAGE = 50, MOST_SHOWN = 4000;
let request = null, shown = [], next = null;

export async function open() {
  const box = $("rejects");
  if (!box.firstChild) frame(box);
  await read();
}

function frame(box) {
  const reason = h("select", { id: "reason", "aria-label": "Reason", onchange: () => set({ reason: reason.value }) });
  box.append(
    h("div", { class: "head" }, h("h1", {}, "Rejects"), h("p", { class: "muted" }, "Readings that could not be stored wait here with their bytes. Nothing is dropped unseen.")),
    h("div", { class: "bar" },
      h("span", { class: "group", role: "group", "aria-label": "Last", id: "since" }, ...SINCE.map((since) => h("button", { "data-since": since, onclick: () => set({ since }) }, since))),
      h("label", { class: "field" }, "Reason ", reason)),
    h("div", { id: "reject-list", "aria-live": "polite" }),
  );
}

async function read(more = false) {
  request?.abort();
  const mine = (request = new AbortController());
  const list = $("reject-list");
  for (const button of $("since").children) button.setAttribute("aria-pressed", String(button.dataset.since === state.since));
  try {
    const to = now() + 60_000;
    const span = { from: iso(Math.floor(to - duration(state.since))), to: iso(Math.ceil(to)) };
    const answer = await get("v1/rejects", more ? { cursor: next } : { ...span, reason: state.reason, limit: PAGE }, mine.signal);
    shown = more ? [...shown, ...answer.rejects] : answer.rejects;
    next = answer.next;
  } catch (error) {
    if (error.name !== "AbortError") problem(list, error, () => read());
    return;
  }
  reasons();
  if (!shown.length) { list.replaceChildren(h("p", { class: "empty" }, state.reason ? "No reject with this reason in this time." : "No reject in this time. What is refused appears here with its reason.")); return; }
  list.replaceChildren(
    h("div", { class: "scroll" }, h("table", { class: "list" },
      h("caption", { class: "sr" }, "Rejects"),
      h("thead", {}, h("tr", {}, ...["Arrived", "Reason", "Sensor", "Lost", "Size", ""].map((name, i) => h("th", { scope: "col", class: i === 3 || i === 4 ? "num more" : null }, name)))),
      ...shown.map(entry))),
    next ? h("p", {}, h("button", { onclick: () => read(true) }, `Show ${PAGE} more`)) : "",
    h("p", { class: "muted" }, "Once the cause is gone, ", h("code", {}, "thermocline rejects retry"), " sends them again."),
  );
}

function reasons() {
  const select = $("reason");
  const known = new Set([...select.options].map((one) => one.value).concat(shown.map((one) => one.reason), state.reason, ""));
  select.replaceChildren(...[...known].sort().map((name) => h("option", { value: name }, name || "any")));
  select.value = state.reason;
}

function entry(one) {
  const detail = h("tr", { hidden: true }, h("td", { colspan: 6 }));
  const button = h("button", { "aria-expanded": "false", onclick: () => toggle(one, button, detail) }, "Bytes");
  return h("tbody", {},
    h("tr", {}, h("td", {}, h("span", { class: "nb" }, day(Date.parse(one.arrived))), " ", clock(Date.parse(one.arrived))), h("td", {}, h("span", { class: "reason" }, one.reason)), h("td", { class: "wide" }, one.sensor_id ? foreign(one.sensor_id) : "–"), h("td", { class: "num more" }, count(one.count)), h("td", { class: "num more" }, bytes(one.size_bytes)), h("td", {}, button)),
    h("tr", { class: "why" }, h("td", { colspan: 6 }, foreign(one.detail || ""))), detail);
}

async function toggle(one, button, row) {
  const open = row.hidden;
  row.hidden = !open;
  button.setAttribute("aria-expanded", String(open));
  const cell = row.firstChild;
  if (!open || cell.querySelector("pre")) return;
  try {
    const found = await get(`v1/rejects/${segment(one.id)}`);
    cell.replaceChildren(h("pre", { tabindex: "0" }, readable(found)), h("p", { class: "muted" }, `id ${one.id}\nsha256 ${one.sha256 || "–"}`));
  } catch (error) {
    cell.replaceChildren(h("p", { class: "problem" }, `${error.title}. ${error.detail || ""}`));
  }
}

/** The payload as text where it is text, else as hex, cut to what one reads. */
function readable(found) {
  if (found.payload_text != null) {
    const text = found.payload_text.slice(0, MOST_SHOWN).split("\n").map(plain).join("\n");
    return found.payload_text.length > MOST_SHOWN ? text + "\n…" : text || "(empty)";
  }
  if (found.payload_base64 == null) return "The bytes are shown to an admin token only.";
  const raw = atob(found.payload_base64).slice(0, MOST_SHOWN / 4);
  const lines = [];
  for (let i = 0; i < raw.length; i += 16) lines.push([...raw.slice(i, i + 16)].map((c) => c.charCodeAt(0).toString(16).padStart(2, "0")).join(" "));
  return lines.join("\n") || "(empty)";
}

onChange((changed) => {
  if (state.view === "rejects" && $("rejects").firstChild && (changed.has("reason") || changed.has("since"))) read();
});
