// Line charts of the last hour as SVG: axes, units, values by pointer or arrow keys, and text for screen readers.

import { draw, make, setText } from "./dom.js";

const HEIGHT = 180;
const LEFT = 56;
const RIGHT = 8;
const TOP = 8;
const BOTTOM = 22;
const QUARTER_S = 900;

/**
 * A chart in a `<figure>`. `series`: [{name, className}]; `format`: a value in words; `limit`: a horizontal line or null.
 * `show({until, stepS, values, limit})` draws `values`, one array per series, null where there is no value.
 */
export function lineChart(figure, { title, series, format }) {
  const caption = make("figcaption", {}, make("span", { class: "chart-title" }, title));
  const now = make("span", { class: "chart-now" });
  const legend = make("span", { class: "legend" });
  if (series.length > 1) {
    for (const { name, className } of series) legend.append(make("span", { class: `key ${className}` }, name));
  }
  caption.append(now, legend);
  const svg = draw("svg", { class: "chart", height: HEIGHT, role: "img", tabindex: 0, "aria-label": title });
  const tip = make("p", { class: "tip", role: "status" });
  figure.replaceChildren(caption, svg, tip);

  let shown = null;
  let cursor = null;

  function redraw() {
    if (shown === null) return;
    const width = Math.max(200, figure.clientWidth);
    svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    svg.setAttribute("width", width);
    const scale = scaleOf(shown, width);
    svg.replaceChildren(...grid(scale, shown, format), ...lines(scale, shown, series), ...limitLine(scale, shown), ...rule(scale));
    describe();
  }

  function rule(scale) {
    if (cursor === null) return [];
    const x = scale.x(cursor);
    return [draw("line", { class: "rule", x1: x, x2: x, y1: TOP, y2: HEIGHT - BOTTOM })];
  }

  function describe() {
    const last = series.map(({ name }, i) => [name, lastKnown(shown.values[i])]);
    const peak = Math.max(0, ...shown.values.flat().filter((value) => value !== null));
    const words = last.map(([name, value]) => (series.length > 1 ? `${name} ${format(value)}` : format(value))).join(", ");
    setText(now, words);
    svg.setAttribute("aria-label", `${title}: now ${words}; highest in the last hour ${format(peak)}`);
    if (cursor === null) return setText(tip, "");
    const at = new Date((shown.until - (shown.values[0].length - 1 - cursor) * shown.stepS) * 1000);
    const values = series.map(({ name }, i) => `${series.length > 1 ? `${name} ` : ""}${format(shown.values[i][cursor])}`);
    setText(tip, `${at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" })}: ${values.join(", ")}`);
  }

  function point(index) {
    const last = shown === null ? 0 : shown.values[0].length - 1;
    cursor = index === null ? null : Math.min(last, Math.max(0, index));
    redraw();
  }

  svg.addEventListener("pointermove", (event) => {
    if (shown === null) return;
    const box = svg.getBoundingClientRect();
    point(Math.round(scaleOf(shown, box.width).index(event.clientX - box.left)));
  });
  svg.addEventListener("pointerleave", () => point(null));
  svg.addEventListener("blur", () => point(null));
  svg.addEventListener("keydown", (event) => {
    if (shown === null) return;
    const last = shown.values[0].length - 1;
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -30, PageDown: 30 }[event.key];
    if (step !== undefined) point((cursor ?? last + (step < 0 ? 1 : 0)) + step);
    else if (event.key === "Home") point(0);
    else if (event.key === "End") point(last);
    else if (event.key === "Escape") point(null);
    else return;
    event.preventDefault();
  });
  new ResizeObserver(redraw).observe(figure);

  return {
    show(what) {
      shown = what;
      redraw();
    },
  };
}

function scaleOf({ values, limit }, width) {
  const count = values[0].length;
  const peak = Math.max(limit ?? 0, ...values.flat().filter((value) => value !== null), 0);
  const step = niceStep(peak / 3);
  const top = peak === 0 ? step : Math.ceil(peak / step) * step;
  const inner = width - LEFT - RIGHT;
  const each = count > 1 ? inner / (count - 1) : 0;
  return {
    width,
    step,
    top,
    x: (index) => LEFT + index * each,
    y: (value) => HEIGHT - BOTTOM - (value / top) * (HEIGHT - TOP - BOTTOM),
    index: (x) => (each === 0 ? 0 : (x - LEFT) / each),
  };
}

/** The smallest of 1, 2, 5, 10, 20, … that is at least `rough`. */
export function niceStep(rough) {
  if (!(rough > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].find((times) => times * power >= rough * (1 - 1e-9)) * power;
}

function grid(scale, { until, stepS, values }, format) {
  const parts = [];
  for (let value = 0; value <= scale.top * 1.0001; value += scale.step) {
    const y = scale.y(value);
    parts.push(draw("line", { class: "grid", x1: LEFT, x2: scale.width - RIGHT, y1: y, y2: y }));
    parts.push(draw("text", { class: "axis", x: LEFT - 6, y: y + 4, "text-anchor": "end" }, format(value)));
  }
  const count = values[0].length;
  const since = until - (count - 1) * stepS;
  const every = scale.width < 420 ? 2 * QUARTER_S : QUARTER_S;
  for (let at = Math.ceil(since / every) * every; at <= until; at += every) {
    const x = scale.x((at - since) / stepS);
    const label = new Date(at * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    parts.push(draw("line", { class: "grid", x1: x, x2: x, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM + 4 }));
    if (x < scale.width - 24) parts.push(draw("text", { class: "axis", x, y: HEIGHT - 6, "text-anchor": "middle" }, label));
  }
  return parts;
}

function lines(scale, { values }, series) {
  return series.map(({ className }, i) => draw("path", { class: `line ${className}`, d: path(scale, values[i]) }));
}

/** A line with gaps where values are missing; a single value is a short stroke. */
function path(scale, values) {
  let d = "";
  let isDown = false;
  values.forEach((value, index) => {
    if (value === null) {
      isDown = false;
      return;
    }
    const x = scale.x(index).toFixed(1);
    const y = scale.y(value).toFixed(1);
    d += isDown ? `L${x} ${y}` : `M${x} ${y}h0.01`;
    isDown = true;
  });
  return d;
}

function limitLine(scale, { limit }) {
  if (limit === null || limit === undefined) return [];
  const y = scale.y(limit);
  return [draw("line", { class: "limit", x1: LEFT, x2: scale.width - RIGHT, y1: y, y2: y })];
}

function lastKnown(values) {
  for (let index = values.length - 1; index >= 0; index -= 1) if (values[index] !== null) return values[index];
  return null;
}
