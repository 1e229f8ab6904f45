// The live list of requests, newest first; each row opens the decision behind it.

import { make, reconcile } from "./dom.js";
import { clock, count, dollars, milliseconds, NONE } from "./words.js";

const MAX_SHOWN = 100;
const MAX_FAILURES = 100;

export function requestRows(body, { filter, onOpen }) {
  return (requests) => {
    const found = requests.filter(filter);
    const older = found.slice(MAX_SHOWN).filter(isFailure).slice(0, MAX_FAILURES);
    const shown = [...found.slice(0, MAX_SHOWN), ...older];
    reconcile(body, shown, { key: ({ request_id: id }) => id, create: (request) => row(request, onOpen) });
    return shown.length;
  };
}

/** Whether a request failed; a client that left is no failure. */
export function isFailure({ result }) {
  return result !== "finished" && result !== "client_left";
}

function row(request, onOpen) {
  const model = request.model ?? NONE;
  return make(
    "tr",
    { class: isFailure(request) ? "failed" : null },
    make("td", {}, make("time", { datetime: new Date(request.timestamp * 1000).toISOString() }, clock(request.timestamp * 1000))),
    make("th", { scope: "row", title: request.endpoint }, model, ...fallback(request), ...translation(request)),
    make("td", {}, request.backend === "none" ? NONE : request.backend),
    make("td", { title: request.error_message }, make("span", { class: `result is-${request.result}` }, resultWord(request))),
    make("td", {}, routeWord(request)),
    make("td", { class: "number" }, milliseconds(request.ttft_ms)),
    make("td", { class: "number" }, milliseconds(request.duration_ms)),
    make("td", { class: "number" }, tokens(request)),
    make("td", { class: "number" }, dollars(request.cost_usd)),
    make("td", {}, make("button", { type: "button", "aria-label": `Why? ${model}`, click: () => onOpen(request) }, "Why?")),
  );
}

function fallback({ fallback_model: model }) {
  return model ? [make("span", { class: "fallback" }, ` → ${model}`)] : [];
}

function translation({ translated: pair }) {
  return pair ? [make("span", { class: "fallback", title: "translated between protocols" }, ` ${pair.replace("->", " ⇄ ")}`)] : [];
}

function resultWord({ result, status_code: status, code, stream }) {
  const words = code ? ` ${code.replaceAll("_", " ")}` : "";
  switch (result) {
    case "finished":
      return `${status}${stream ? " stream" : ""}`;
    case "truncated":
      return `cut off after ${status}${code === "stream_truncated" ? "" : words}`;
    case "stalled":
      return `stalled after ${status}`;
    case "client_left":
      return "client left";
    case "shut_down":
      return "ended by the shutdown";
    default:
      return status < 400 ? `error after ${status}` : `${status}${words}`;
  }
}

function routeWord({ route_reason: reason, attempts, rejected_by: stage, rejected_because: why }) {
  if (stage) return `rejected by ${stage}: ${why}`;
  return attempts.length > 1 ? `${reason ?? NONE}, attempt ${attempts.length}` : (reason ?? NONE);
}

function tokens({ tokens_prompt: prompt, tokens_completion: completion, tokens_estimated: isEstimated }) {
  if (prompt === null || prompt === undefined) return NONE;
  return `${isEstimated ? "≈ " : ""}${count(prompt)} + ${count(completion)}`;
}

/** Whether the row of a request contains a text. */
export function matches(request, text) {
  const words = [request.model, request.backend, request.endpoint, request.code, request.rejected_by, request.request_id];
  return words.some((word) => word?.toLowerCase().includes(text));
}
