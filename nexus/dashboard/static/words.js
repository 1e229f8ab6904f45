// Formats numbers and times.

export const NONE = "–";

export function count(number) {
  return number === null || number === undefined ? NONE : number.toLocaleString("en");
}

/** A duration, in the unit that needs the fewest digits. */
export function seconds(value) {
  if (value === null || value === undefined) return NONE;
  if (value === 0) return "0";
  if (value < 0.001) return "<1 ms";
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  return value < 10 ? `${value.toFixed(2)} s` : value < 100 ? `${value.toFixed(1)} s` : `${Math.round(value)} s`;
}

export function milliseconds(value) {
  return value === null || value === undefined ? NONE : seconds(value / 1000);
}

export function dollars(value) {
  if (value === null || value === undefined) return NONE;
  return `$${value !== 0 && Math.abs(value) < 0.01 ? value.toFixed(4) : value.toFixed(2)}`;
}

export function percent(part) {
  if (part === null || part === undefined) return NONE;
  return `${part !== 0 && part < 0.1 ? (part * 100).toFixed(1) : Math.round(part * 100)} %`;
}

export function rate(value) {
  if (value === null || value === undefined) return NONE;
  if (value === 0) return "0";
  return value < 1 ? value.toFixed(2) : value < 10 ? value.toFixed(1) : count(Math.round(value));
}

/** Tokens of context: 128k, 8k, 512. */
export function context(tokens) {
  if (tokens === null || tokens === undefined) return NONE;
  return tokens >= 1000 ? `${Math.round(tokens / 1024)}k` : String(tokens);
}

/** How long ago an instant was. */
export function ago(instant, now = Date.now()) {
  if (instant === null || instant === undefined) return "never";
  return `${span(Math.max(0, (now - Date.parse(instant)) / 1000))} ago`;
}

/** How long until an instant. */
export function soon(instant, now = Date.now()) {
  const left = (Date.parse(instant) - now) / 1000;
  return left > 0.5 ? `in ${span(left)}` : "now";
}

export function span(total) {
  const whole = Math.round(total);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

export function clock(instant) {
  return new Date(instant).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
}
