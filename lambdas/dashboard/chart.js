// The chart itself: uPlot with bands, axes by unit, gestures, and the ribbon of tiers under it. It asks for nothing.

import { lonely, lowerBound } from "./series.js";
import { $, clock, dayMonth, h, monthYear, parts, plain, value, zone } from "./text.js";

const uPlot = globalThis.uPlot;
const LEFT = 58, RIGHT = 52, NO_AXIS = 14, SLIM = 46;
const LEAST_SPAN_S = 0.01, MOST_SPAN_S = 9.9 * 31536000;
const GUTTER = 4; // between the rows of two sensors

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
export const hue = (index) => `--line-${index % 6}`;
const faded = (hex) => hex + "2b";

/** `on.zoom(from, to)` a stretch was chosen, `on.pan(from, to)` the view moved, `on.back()`, `on.cursor(index|null)`. */
export class Chart {
  constructor(box, on) {
    Object.assign(this, { box, on, plot: null, shape: "", view: [0, 1], rows: [], hidden: new Set() });
    new ResizeObserver(() => this.resize()).observe(box);
    this.gestures = new AbortController();
  }

  get width() { return Math.max(200, this.box.clientWidth); }
  get height() { return Math.round(Math.max(220, Math.min(560, innerHeight * (innerWidth < 720 ? 0.42 : 0.53)))); }
  /** Pixels that hold points. */
  get pixels() { return this.plot ? this.plot.over.clientWidth : this.width - LEFT - NO_AXIS; }

  /** Draw: `lines` have `{key, scale, label}`; `data` is aligned, three columns a line where `banded`. */
  show(lines, data, banded, view) {
    this.view = view;
    const shape = JSON.stringify([lines.map((one) => [one.key, one.scale]), banded, this.width < 560]);
    if (shape !== this.shape || !this.plot) this.make(lines, data, banded, shape);
    else {
      this.data = data;
      this.lonely = null;
      this.plot.batch(() => { this.plot.setData(data, false); this.plot.setScale("x", { min: view[0], max: view[1] }); });
    }
    this.place();
  }

  clear() { this.plot?.destroy(); this.plot = null; this.fingers = null; this.shape = ""; this.box.replaceChildren(); }
  again() { this.shape = ""; }

  make(lines, data, banded, shape) {
    this.plot?.destroy();
    Object.assign(this, { shape, data, lines, banded, lonely: null });
    const step = banded ? 3 : 1;
    const series = [{}], bands = [];
    lines.forEach((one, i) => {
      const stroke = colour(hue(i)), dash = i >= 6 ? [6, 4] : undefined, show = !this.hidden.has(one.key);
      series.push({ scale: one.scale, stroke, width: 1.5, dash, show, points: this.points(1 + i * step, stroke) });
      if (!banded) return;
      for (let k = 0; k < 2; k++) series.push({ scale: one.scale, stroke: null, width: 0, show, points: { show: false } });
      bands.push({ series: [i * 3 + 3, i * 3 + 2], fill: faded(stroke) });
    });
    this.plot = new uPlot({
      width: this.width, height: this.height, series, bands,
      scales: { x: { time: true, range: () => this.view } },
      axes: this.axes(lines),
      tzDate: (ts) => (zone.utc ? uPlot.tzDate(new Date(ts * 1e3), "Etc/UTC") : new Date(ts * 1e3)),
      legend: { show: false },
      padding: [10, null, null, null],
      cursor: {
        drag: { x: true, y: false, setScale: false, dist: 4 },
        points: { size: 7 }, y: false,
        bind: {
          mousedown: (u, target, handler) => (event) => { if (event.button === 0 && !event.shiftKey) handler(event); },
          dblclick: () => () => this.on.back(),
        },
      },
      hooks: {
        setSelect: [(u) => {
          const { left, width } = u.select;
          if (width < 4) return;
          u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
          this.on.zoom(u.posToVal(left, "x"), u.posToVal(left + width, "x"));
        }],
        setCursor: [(u) => this.on.cursor(u.cursor.left >= 0 ? u.cursor.idx : null)],
      },
    }, data, this.box);
    this.listen(this.plot.over);
  }

  points(index, stroke) {
    return {
      size: 5, fill: stroke, width: 0,
      show: (u) => {
        const [from, to] = this.view;
        const seen = lowerBound(this.data[0], to) - lowerBound(this.data[0], from);
        return seen < this.pixels / 8 || this.alone(index).length > 0;
      },
      filter: (u) => {
        const [from, to] = this.view;
        const seen = lowerBound(this.data[0], to) - lowerBound(this.data[0], from);
        return seen < this.pixels / 8 ? null : this.alone(index);
      },
    };
  }

  alone(index) {
    this.lonely ??= new Map();
    if (!this.lonely.has(index)) this.lonely.set(index, lonely(this.data[index]));
    return this.lonely.get(index);
  }

  axes(lines) {
    const ink = colour("--muted"), font = `11px ${colour("--font")}`;
    const grid = { stroke: colour("--grid"), width: 1 }, ticks = { ...grid, size: 4 };
    const scales = [...new Set(lines.map((one) => one.scale))];
    const slim = this.width < 560, shown = scales.slice(0, slim ? 2 : 3);
    const x = { stroke: ink, font, grid, ticks, size: 40, space: 90, values: times };
    const ys = shown.map((scale, i) => {
      const lead = lines.findIndex((one) => one.scale === scale);
      return {
        scale, side: i ? 1 : 3, stroke: scales.length > 1 && lines.filter((one) => one.scale === scale).length === 1 ? colour(hue(lead)) : ink,
        font, ticks, grid: i ? { show: false } : grid, size: i ? RIGHT : slim ? SLIM : LEFT, gap: 4, ...(slim ? {} : { label: plain(scale), labelSize: 18, labelGap: 0, labelFont: font }),
        values: (u, splits) => splits.map((split) => value(split)),
      };
    });
    return [x, ...ys];
  }

  resize() {
    if (!this.plot || !this.box.clientWidth) return;
    if (this.plot.width !== this.width || this.plot.height !== this.height) this.plot.setSize({ width: this.width, height: this.height });
    this.place();
  }

  /** Move to a span at once, with the points there are. */
  look(from, to) {
    this.view = [from, to];
    this.plot?.setScale("x", { min: from, max: to });
    this.place();
  }

  toggle(key) {
    if (!this.hidden.delete(key)) this.hidden.add(key);
    const i = this.lines.findIndex((one) => one.key === key);
    const step = this.banded ? 3 : 1;
    for (let k = 0; k < step; k++) this.plot.setSeries(1 + i * step + k, { show: !this.hidden.has(key) });
  }

  // --- gestures: shift-drag, wheel, fingers ---------------------------------------------

  listen(over) {
    this.gestures.abort();
    this.gestures = new AbortController();
    const options = { signal: this.gestures.signal };
    const fingers = (this.fingers = new Map());
    let start = null;
    const begin = () => { start = { view: [...this.view], at: [...fingers.values()] }; };
    over.addEventListener("pointerdown", (event) => {
      if (event.pointerType === "mouse" && !(event.button === 0 && event.shiftKey)) return;
      fingers.set(event.pointerId, event.clientX);
      over.setPointerCapture(event.pointerId);
      begin();
    }, options);
    over.addEventListener("pointermove", (event) => {
      if (!fingers.has(event.pointerId)) return;
      fingers.set(event.pointerId, event.clientX);
      const now = [...fingers.values()], width = over.clientWidth, left = over.getBoundingClientRect().left;
      const [from, to] = start.view, span = to - from;
      if (now.length === 1) { const by = ((start.at[0] - now[0]) / width) * span; this.move(from + by, to + by); return; }
      const scale = Math.max(8, Math.abs(start.at[0] - start.at[1])) / Math.max(8, Math.abs(now[0] - now[1]));
      const middle = from + (((start.at[0] + start.at[1]) / 2 - left) / width) * span;
      const next = middle - (((now[0] + now[1]) / 2 - left) / width) * span * scale;
      this.move(next, next + span * scale);
    }, options);
    for (const name of ["pointerup", "pointercancel"])
      over.addEventListener(name, (event) => { if (fingers.delete(event.pointerId)) begin(); }, options);
    over.addEventListener("wheel", (event) => {
      const [from, to] = this.view, span = to - from;
      const sideways = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
      if (event.ctrlKey || event.metaKey) {
        event.preventDefault();
        const scale = Math.exp(Math.max(-60, Math.min(60, event.deltaY)) / 150);
        const at = from + (event.offsetX / over.clientWidth) * span;
        this.move(at - (at - from) * scale, at + (to - at) * scale);
      } else if (sideways && (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY))) {
        event.preventDefault();
        const by = (sideways / over.clientWidth) * span;
        this.move(from + by, to + by);
      }
    }, { passive: false, ...options });
  }

  /** Whether a finger is on it, which a new chart would lose. */
  get held() { return this.fingers?.size > 0; }

  move(from, to) {
    if (!(to - from >= LEAST_SPAN_S && to - from <= MOST_SPAN_S)) return;
    this.look(from, to);
    this.on.pan(from, to);
  }

  // --- the ribbon -----------------------------------------------------------------------

  /** One row per sensor `{name, tiers}`: hot is the upper lane, cold the lower one, both fill both. */
  ribbon(rows) {
    this.rows = rows;
    const lane = (this.lane = rows.length > 1 ? 5 : 9), step = 2 * lane + GUTTER;
    this.origin = Math.min(...rows.map((row) => row.tiers[0].from), this.view[1]);
    const rect = (name, one, y) => h("svg:rect", { class: name, x: one.from - this.origin, width: Math.max(one.to - one.from, 1e-6), y, height: lane });
    $("ribbon").replaceChildren(...rows.flatMap((row, i) => [
      h("svg:rect", { class: "bed", y: i * step, height: lane * 2 }),
      ...row.tiers.map((one) => h("svg:g", { "data-tier": one.tier },
        one.tier !== "cold" ? rect("hot", one, i * step) : null, one.tier !== "hot" ? rect("cold", one, i * step + lane) : null)),
    ]));
    $("ribbon-names").replaceChildren(...(rows.length > 1
      ? rows.map((row) => h("span", {}, row.name))
      : [h("span", { class: "hot" }, "hot"), h("span", { class: "cold" }, "cold")]));
    this.place();
  }

  place() {
    const svg = $("ribbon"), count = this.rows.length, names = $("ribbon-names");
    svg.parentNode.hidden = !this.plot || !count;
    if (svg.parentNode.hidden) return;
    const { left, width } = this.plot.bbox, ratio = devicePixelRatio;
    const height = count * (2 * this.lane + GUTTER) - GUTTER, from = this.view[0] - this.origin, span = this.view[1] - this.view[0];
    svg.style.marginLeft = left / ratio + "px";
    svg.style.width = width / ratio + "px";
    svg.style.height = height + "px";
    names.style.width = left / ratio + "px";
    names.style.gap = count > 1 ? GUTTER + "px" : 0;
    svg.setAttribute("viewBox", `${from} 0 ${span} ${height}`);
    for (const bed of svg.querySelectorAll(".bed")) { bed.setAttribute("x", from); bed.setAttribute("width", span); }
  }
}

/** Labels of the time axis: the time, and under it the date where it changes. */
function times(u, splits, axis, space, step) {
  let last = "";
  return splits.map((split) => {
    const ms = Math.round(split * 1000);
    if (step >= 86400 * 28) return monthYear(ms);
    const y = parts(ms).y, date = dayMonth(ms) + (y === new Date().getFullYear() ? "" : ` ${y}`);
    if (step >= 86400) return date;
    const shown = date !== last;
    last = date;
    return clock(ms, step < 60, step < 1) + (shown ? `\n${date}` : "");
  });
}
