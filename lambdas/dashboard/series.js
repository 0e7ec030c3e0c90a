// What the chart draws, without a chart: answers kept per sensor, joined to aligned columns with gaps; pure functions.

const NICE_S = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 1209600, 2592000, 7776000];
/** More readings than this of one sensor are asked for as windows. */
export const MOST_RAW = 4000;
const GAP_STEPS = 3;

/** The window, in seconds, that gives no more windows than pixels. */
export const everyFor = (spanS, pixels) => NICE_S.find((every) => spanS / every <= pixels) || 31536000;

export function everyText(seconds) {
  if (seconds < 1) return Math.round(seconds * 1000) + "ms";
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["m", 60]]) if (seconds % size === 0) return seconds / size + unit;
  return seconds + "s";
}

/** One sensor's readings as last answered: `ts` in seconds, `columns` by name, `tiers` in seconds, ascending. */
export class Kept {
  constructor() { this.ts = []; this.columns = new Map(); this.metrics = []; this.units = {}; this.tiers = []; }

  /** Puts an answer in place of all from `fromS` on. The last instant held, or null. */
  take(result, fromS) {
    const keep = lowerBound(this.ts, fromS);
    const fresh = result.ts_us || [];
    const length = keep + fresh.length;
    const ts = this.ts.slice(0, keep);
    for (let i = 0; i < fresh.length; i++) ts.push(fresh[i] / 1e6);
    const columns = new Map();
    for (const name of new Set([...this.columns.keys(), ...Object.keys(result.columns || {})])) {
      const old = this.columns.get(name), given = (result.columns || {})[name];
      const column = old ? old.slice(0, keep) : new Array(keep).fill(null);
      if (given) for (let i = 0; i < given.length; i++) column.push(given[i]);
      else while (column.length < length) column.push(null);
      columns.set(name, column);
    }
    this.ts = ts;
    this.columns = columns;
    if (!result.every) this.metrics = [...new Set([...this.metrics, ...(result.metrics || [])])].sort(); // of windows they are columns
    Object.assign(this.units, result.units || {});
    this.takeTiers(result.tiers, fromS);
  }

  takeTiers(given, fromS) {
    if (!given) return;
    const before = this.tiers.filter((one) => one.from < fromS).map((one) => ({ ...one, to: Math.min(one.to, fromS) }));
    for (const one of given) {
      const next = { from: Math.max(Date.parse(one.from) / 1000, before.length ? fromS : -Infinity), to: Date.parse(one.to) / 1000, tier: one.tier };
      const last = before.at(-1);
      if (last && last.tier === next.tier && next.from - last.to < 3) last.to = Math.max(last.to, next.to);
      else if (next.to > next.from) before.push(next);
    }
    this.tiers = before;
  }

  /** Forgets what lies before. */
  prune(fromS) {
    const cut = lowerBound(this.ts, fromS);
    if (cut < 500 && cut < this.ts.length / 4) return;
    this.ts = this.ts.slice(cut);
    for (const [name, column] of this.columns) this.columns.set(name, column.slice(cut));
    this.tiers = this.tiers.filter((one) => one.to > fromS);
  }
}

export function lowerBound(sorted, wanted) {
  let low = 0, high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}

function medianStep(ts) {
  if (ts.length < 4) return Infinity;
  const stride = Math.max(1, Math.floor(ts.length / 1000));
  const steps = [];
  for (let i = stride; i < ts.length; i += stride) steps.push(ts[i] - ts[i - 1]);
  return steps.sort((a, b) => a - b)[steps.length >> 1];
}

const asNumber = (value) => (typeof value === "number" ? value : value === true ? 1 : value === false ? 0 : null);

/** A line's points without absent ones, with an empty point in the middle of each gap. */
function line(kept, names, everyS) {
  const given = names.map((name) => kept.columns.get(name));
  const xs = [], ys = names.map(() => []);
  const main = given[0];
  if (!main) return { xs, ys };
  const at = [];
  for (let i = 0; i < main.length; i++) if (asNumber(main[i]) !== null) at.push(i);
  const ts = at.length === kept.ts.length ? kept.ts : at.map((i) => kept.ts[i]);
  const widest = GAP_STEPS * Math.max(medianStep(ts), everyS);
  const shift = everyS / 2;
  for (let k = 0; k < at.length; k++) {
    if (k && ts[k] - ts[k - 1] > widest) {
      xs.push((ts[k] + ts[k - 1]) / 2 + shift);
      for (const column of ys) column.push(null);
    }
    xs.push(ts[k] + shift);
    for (let c = 0; c < ys.length; c++) ys[c].push(given[c] ? asNumber(given[c][at[k]]) : null);
  }
  return { xs, ys };
}

const same = (a, b) => a.length === b.length && a[0] === b[0] && a.at(-1) === b.at(-1) && a.every((x, i) => x === b[i]);

/** Lines `{kept, metric}` as uPlot's aligned data: x, then for each line its value, or mean, min and max of windows.
 *  Where only other lines have a point a column holds undefined (drawn through), at a gap null. */
export function build(lines, everyS) {
  const found = lines.map(({ kept, metric }) => line(kept, everyS ? ["mean", "min", "max"].map((name) => `${metric}_${name}`) : [kept.columns.has(metric) ? metric : metric + "_"], everyS));
  if (!found.length) return [[]];
  if (found.every((one) => same(one.xs, found[0].xs))) return [found[0].xs, ...found.flatMap((one) => one.ys)];
  const all = new Float64Array(found.reduce((sum, one) => sum + one.xs.length, 0));
  let place = 0;
  for (const one of found) { all.set(one.xs, place); place += one.xs.length; }
  all.sort();
  const xs = [];
  for (let i = 0; i < all.length; i++) if (i === 0 || all[i] !== all[i - 1]) xs.push(all[i]);
  const columns = [];
  for (const one of found) {
    const spread = one.ys.map(() => new Array(xs.length).fill(undefined));
    for (let i = 0, k = 0; k < one.xs.length; i++)
      if (xs[i] === one.xs[k]) { for (let c = 0; c < spread.length; c++) spread[c][i] = one.ys[c][k]; k++; }
    columns.push(...spread);
  }
  return [xs, ...columns];
}

/** Indices of points that no line leads to or from; they would not be seen without a dot. */
export function lonely(column) {
  const found = [];
  let before = null, candidate = -1;
  for (let i = 0; i < column.length; i++) {
    const value = column[i];
    if (value === undefined) continue;
    if (value === null) { if (candidate >= 0) found.push(candidate); candidate = -1; }
    else candidate = before === null ? i : -1;
    before = value;
  }
  if (candidate >= 0) found.push(candidate);
  return found;
}

/** Least, mean, greatest and last of what lies in [from, to): means of windows are weighed alike. */
export function summary(xs, mean, min, max, from, to) {
  let low = Infinity, high = -Infinity, sum = 0, n = 0, last = null;
  for (let i = lowerBound(xs, from); i < xs.length && xs[i] < to; i++) {
    const value = mean[i];
    if (value == null) continue;
    low = Math.min(low, min[i] ?? value);
    high = Math.max(high, max[i] ?? value);
    sum += value; n++; last = value;
  }
  return n ? { min: low, max: high, mean: sum / n, last, n } : null;
}
