// The cost panel: what storing consumed, what it would cost in a month, where readings live, what queries cost.

import { costs, events, status } from "./api.js";
import { state } from "./state.js";
import { $, bytes, clock, count, h, instant, length, problem, short, some } from "./text.js";

const EVERY_MS = 5000;
let timer = 0;

export async function open() {
  clearTimeout(timer);
  const box = $("cost");
  if (!box.firstChild) box.append(
    h("div", { class: "head" }, h("h1", {}, "Cost"), h("p", { class: "muted", id: "cost-since" })),
    h("div", { id: "tiles", class: "tiles" }), h("div", { id: "life" }),
    h("h2", {}, "Queries of this page"), h("div", { id: "queries", class: "scroll" }));
  try { show(await status()); } catch (error) { problem($("tiles"), error, open); }
  queries();
  if (state.view === "cost") timer = setTimeout(() => (state.view === "cost" ? open() : null), EVERY_MS);
}

const usd = (amount) => (amount == null ? "–" : amount === 0 ? "$0" : amount < 0.01 ? "< $0.01" : "$" + amount.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 }));
const tile = (name, text, more, kind) => h("div", { class: `tile ${kind || ""}` }, h("span", {}, name), h("strong", {}, text), h("small", {}, more || ""));

function show(found) {
  const c = found.counters || {}, month = found.estimated_month_usd;
  const late = found.oldest_due_s > 0 ? found.oldest_due_s : 0;
  $("cost-since").textContent = found.counters ? `Counted since ${c.since ? instant(Date.parse(c.since)) : "the start"}.` : "This target does not tell its counters here; `thermocline status` may.";
  $("tiles").replaceChildren(
    tile("Write units", c.write_units == null ? "–" : short(c.write_units), c.chunks == null ? "" : some(c.chunks, "chunk"), "hot"),
    tile("Readings", c.readings == null ? "–" : short(c.readings), c.readings == null ? "" : count(c.readings), "hot"),
    tile("Readings per write unit", c.readings_per_write_unit == null ? "–" : c.readings_per_write_unit.toFixed(1), "1 without batching", "hot"),
    tile("Write units, a month", usd(month?.write_units), month?.basis || "not known yet", "hot"),
    tile("Archive", bytes(found.segment_bytes), `${some(found.segments, "segment")}, ${short(found.segment_rows)} rows`, "cold"),
    tile("Bytes per row", found.segment_rows ? (found.segment_bytes / found.segment_rows).toFixed(2) : "–", "in the archive", "cold"),
    tile("To be archived", count(found.manifests_due), late ? `oldest is late by ${length(late)}` : "nothing is late", late > 900 ? "bad" : "cold"),
    tile("Rejects", c.rejects == null ? "–" : count(c.rejects), "values and readings refused", c.rejects ? "bad" : ""),
  );
  life(found.layout || {});
}

/** The life of a reading, from the stream to the end of its cold retention. */
function life({ bucket_s, archive_after_s, hot_retention_s, cold_retention_s }) {
  if (!hot_retention_s) { $("life").replaceChildren(); return; }
  $("life").replaceChildren(
    h("h2", {}, "Where a reading lives"),
    h("div", { class: "life", role: "img", "aria-label": `Hot for ${length(hot_retention_s)}, archived ${length(archive_after_s)} after its bucket of ${length(bucket_s)}, cold until ${length(cold_retention_s)}` },
      h("div", { class: "hot" }, h("b", {}, "Hot"), ` DynamoDB, ${length(hot_retention_s)}`),
      h("div", { class: "cold" }, h("b", {}, "Cold"), ` S3, from ${length(archive_after_s)} on, for ${length(cold_retention_s)}`)),
    h("p", { class: "muted" }, `Buckets of ${length(bucket_s)}. Between ${length(archive_after_s)} and ${length(hot_retention_s)} a reading is in both tiers, and is counted once.`));
}

function queries() {
  if (state.view !== "cost" || !$("queries")) return;
  if (!costs.length) { $("queries").replaceChildren(h("p", { class: "empty" }, "None yet. Open the chart, then come back.")); return; }
  $("queries").replaceChildren(h("table", { class: "list" },
    h("caption", { class: "sr" }, "What the last queries of this page cost"),
    h("thead", {}, h("tr", {}, ...["At", "Query", "Items", "Read units", "Objects", "Requests", "Bytes", "Time"].map((name, i) => h("th", { scope: "col", class: i > 1 ? (i === 3 || i === 7 ? "num" : "num more") : null }, name)))),
    h("tbody", {}, ...costs.slice(0, 12).map(({ what, at, cost }) => h("tr", {}, h("td", {}, clock(at)), h("td", { class: "wide" }, what),
      ...[count(cost.items), (cost.read_units || 0).toFixed(1), count(cost.objects), count(cost.requests), bytes(cost.bytes), `${Math.round(cost.ms)} ms`].map((text, i) => h("td", { class: i === 1 || i === 5 ? "num" : "num more" }, text)))))));
}

events.addEventListener("cost", queries);
