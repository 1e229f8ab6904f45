// The cards of the fleet: who is well, since when, and why not.

import { ask } from "./api.js";
import { make, reconcile, setText } from "./dom.js";
import { ago, count, NONE, percent, rate, seconds, soon } from "./words.js";

const WORST_FIRST = ["unhealthy", "unknown", "draining", "healthy"];

/** Cards below `parent`, of those backends that `filter` admits; `onFailure` is told what could not be done. */
export function fleetCards(parent, { filter, onFailure }) {
  return (backends) => {
    const shown = Array.from(backends.values())
      .filter(filter)
      .sort((a, b) => WORST_FIRST.indexOf(a.status) - WORST_FIRST.indexOf(b.status) || a.name.localeCompare(b.name));
    reconcile(parent, shown, { key: ({ name }) => name, create: (backend) => card(backend, onFailure), update: fill });
    return shown.length;
  };
}

function card(backend, onFailure) {
  const facts = make("dl", { class: "facts" });
  for (const [name, label] of FACTS) facts.append(make("div", {}, make("dt", {}, label), make("dd", { "data-fact": name })));
  const button = make("button", { type: "button", click: () => void toggleDraining(made, onFailure) });
  const made = make(
    "li",
    { class: "card" },
    make("h3", {}, backend.name),
    make("p", { class: "state" }, make("span", { class: "status" }), make("span", { class: "since" })),
    make("p", { class: "why" }),
    make("div", { class: "load", role: "meter", "aria-label": "Requests in flight", "aria-valuemin": 0 }, make("div", {})),
    facts,
    make("p", { class: "actions" }, button),
  );
  return made;
}

const FACTS = [
  ["load", "In flight"],
  ["kind", "Kind"],
  ["place", "Zone, tier"],
  ["ttft", "First token p50, p95"],
  ["speed", "Tokens/s"],
  ["errors", "Errors, 5 min"],
  ["breaker", "Breaker"],
  ["checked", "Checked, next"],
  ["models", "Models"],
];

function fill(card, backend) {
  const { figures } = backend;
  const find = (selector) => card.querySelector(selector);
  const word = backend.is_cooling && backend.status === "healthy" ? "cooling down" : backend.status;
  card.className = `card is-${backend.status}`;
  find("h3").title = backend.url;
  setText(find(".status"), word);
  setText(find(".since"), backend.status_since ? ` for ${ago(backend.status_since).replace(" ago", "")}` : "");
  setText(find(".why"), backend.last_error ?? "");
  find(".why").hidden = !backend.last_error;
  const share = Math.min(1, backend.pending_requests / backend.max_in_flight);
  const meter = find(".load");
  meter.setAttribute("aria-valuemax", backend.max_in_flight);
  meter.setAttribute("aria-valuenow", backend.pending_requests);
  meter.firstElementChild.style.width = `${share * 100}%`;
  const facts = {
    load: `${count(backend.pending_requests)} of ${count(backend.max_in_flight)}`,
    kind: backend.version ? `${backend.backend_type} ${backend.version}` : backend.backend_type,
    place: `${backend.zone}, ${backend.tier}`,
    ttft: figures.first_token_p50_s === null ? NONE : `${seconds(figures.first_token_p50_s)}, ${seconds(figures.first_token_p95_s)}`,
    speed: figures.tokens_per_s ? rate(figures.tokens_per_s) : NONE,
    errors: figures.requests ? percent(figures.error_rate) : NONE,
    breaker: backend.breaker.replace("_", " "),
    checked: `${ago(backend.last_health_check)}${backend.next_check ? `, ${soon(backend.next_check)}` : ""}`,
    models: count((backend.models ?? []).length),
  };
  for (const [name, text] of Object.entries(facts)) setText(find(`[data-fact=${name}]`), text);
  const button = find("button");
  setText(button, backend.status === "draining" ? "Put back" : "Drain");
  button.setAttribute("aria-label", `${button.textContent} ${backend.name}`);
}

async function toggleDraining(card, onFailure) {
  const name = card.dataset.key;
  const isDraining = card.classList.contains("is-draining");
  const button = card.querySelector("button");
  button.disabled = true;
  try {
    await ask(`admin/backends/${encodeURIComponent(name)}/${isDraining ? "undrain" : "drain"}`, { method: "POST" });
  } catch (error) {
    onFailure(`${name}: ${error.message}`);
  } finally {
    button.disabled = false;
  }
}
