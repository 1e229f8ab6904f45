// The live list of requests, newest first; each row opens the decision behind it.

import { make, reconcile } from "./dom.js";
import { clock, count, dollars, milliseconds, NONE } from "./words.js";

const MOST_SHOWN = 100;

export function requestRows(body, { filter, onOpen }) {
  return (requests) => {
    const shown = requests.filter(filter).slice(0, MOST_SHOWN);
    reconcile(body, shown, { key: ({ request_id: id }) => id, create: (request) => row(request, onOpen) });
    return shown.length;
  };
}

function row(request, onOpen) {
  const isFailure = request.status_code >= 400;
  const model = request.model ?? NONE;
  return make(
    "tr",
    { class: isFailure ? "failed" : null },
    make("td", {}, make("time", { datetime: new Date(request.timestamp * 1000).toISOString() }, clock(request.timestamp * 1000))),
    make("th", { scope: "row", title: request.endpoint }, model, ...fallback(request)),
    make("td", {}, request.backend === "none" ? NONE : request.backend),
    make("td", { title: request.error_message }, statusWord(request)),
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

function statusWord({ status_code: status, code, stream }) {
  const how = stream ? " stream" : "";
  return code ? `${status} ${code.replaceAll("_", " ")}` : `${status}${how}`;
}

function routeWord({ route_reason: reason, attempts }) {
  return attempts.length > 1 ? `${reason ?? NONE}, attempt ${attempts.length}` : (reason ?? NONE);
}

function tokens({ tokens_prompt: prompt, tokens_completion: completion, tokens_estimated: isEstimated }) {
  if (prompt === null || prompt === undefined) return NONE;
  return `${isEstimated ? "≈ " : ""}${count(prompt)} + ${count(completion)}`;
}

/** Find a text in what a row shows. */
export function matches(request, text) {
  const words = [request.model, request.backend, request.endpoint, request.code, request.request_id];
  return words.some((word) => word?.toLowerCase().includes(text));
}
