// The cards of the fleet: the status of each backend, since when, and why.

import { ask } from "./api.js";
import { byName, make, reconcile, setText } from "./dom.js";
import { drain, remove } from "./taking_out.js";
import { ago, count, NONE, percent, rate, seconds, soon } from "./words.js";

const WORST_FIRST = ["unhealthy", "loading", "unknown", "draining", "healthy"];

/** Cards below `parent` for the backends that match `filter`; `onFailure` is called when an action fails. */
export function fleetCards(parent, { filter, onFailure }) {
  return (backends) => {
    const shown = Array.from(backends.values())
      .filter(filter)
      .sort((a, b) => WORST_FIRST.indexOf(a.status) - WORST_FIRST.indexOf(b.status) || byName(a, b));
    reconcile(parent, shown, { key: ({ name }) => name, create: (backend) => card(backend, onFailure), update: fill });
    return shown.length;
  };
}

/** The elements of a card that change, looked up once, as a hundred cards are updated every second. */
const PARTS = new WeakMap();

function card(backend, onFailure) {
  const facts = make("dl", { class: "facts" });
  for (const [name, label] of FACTS) facts.append(make("div", {}, make("dt", {}, label), make("dd", { "data-fact": name })));
  const button = make("button", { type: "button", click: () => void change(made, button, isDraining(made) ? undrain : drain, onFailure) });
  const removal = make("button", { type: "button", click: () => void change(made, removal, remove, onFailure) }, "Remove");
  const made = make(
    "li",
    { class: "card" },
    make("h3", {}, backend.name),
    make("p", { class: "state" }, make("span", { class: "status" }), make("span", { class: "since" })),
    make("p", { class: "why" }),
    make("div", { class: "load", role: "meter", "aria-label": "Requests in flight", "aria-valuemin": 0 }, make("div", {})),
    facts,
    make("p", { class: "actions" }, button, removal),
  );
  const find = (selector) => made.querySelector(selector);
  PARTS.set(made, {
    title: find("h3"),
    status: find(".status"),
    since: find(".since"),
    why: find(".why"),
    load: find(".load"),
    button,
    removal,
    facts: new Map(FACTS.map(([name]) => [name, find(`[data-fact=${name}]`)])),
  });
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
  ["source", "Source"],
  ["age", "In the fleet for"],
  ["seen", "Seen"],
  ["models", "Models"],
];

const SOURCES = {
  api: "API",
  dns: "DNS",
  file: "watched file",
  hosts: "known ports",
  kubernetes: "Kubernetes",
  local: "this machine",
  mdns: "mDNS",
  static: "configuration",
};

function fill(card, backend) {
  const { figures } = backend;
  const parts = PARTS.get(card);
  const word = wordFor(backend);
  const state = `card is-${backend.status}`;
  if (card.className !== state) card.className = state;
  if (parts.title.title !== backend.url) parts.title.title = backend.url;
  setText(parts.status, word);
  setText(parts.since, backend.status_since ? ` for ${ago(backend.status_since).replace(" ago", "")}` : "");
  const stale = backend.address_stale_since && `its name has not been looked up for ${ago(backend.address_stale_since).replace(" ago", "")}`;
  const why = backend.misconfigured ?? backend.last_error ?? stale;
  setText(parts.why, why ?? "");
  parts.why.hidden = !why;
  showLoad(parts.load, backend);
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
    source: [backend.discovery_source, ...backend.also_found_by].map((source) => SOURCES[source] ?? source).join(", "),
    age: ago(backend.joined_at).replace(" ago", ""),
    seen: backend.last_seen === null ? NONE : `${ago(backend.last_seen)}${backend.is_stale ? ", stale" : ""}`,
  };
  for (const [name, text] of Object.entries(facts)) setText(parts.facts.get(name), text);
  setText(parts.button, backend.status === "draining" ? "Put back" : "Drain");
  const label = `${parts.button.textContent} ${backend.name}`;
  if (parts.button.getAttribute("aria-label") !== label) parts.button.setAttribute("aria-label", label);
  // A backend in the file, or one that would be discovered again, can only be drained.
  parts.removal.hidden = backend.discovery_source !== "api";
  parts.removal.setAttribute("aria-label", `Remove ${backend.name}`);
  const seen = parts.facts.get("seen");
  seen.classList.toggle("is-stale", backend.is_stale);
  seen.parentElement.hidden = backend.last_seen === null;
}

function wordFor({ status, misconfigured, is_cooling: isCooling, is_busy: isBusy }) {
  if (status !== "healthy") return status;
  if (misconfigured) return "misconfigured";
  if (isCooling) return "cooling down";
  return isBusy ? "busy" : status;
}

function showLoad(meter, { pending_requests: pending, max_in_flight: most }) {
  const now = String(pending);
  if (meter.getAttribute("aria-valuenow") === now && meter.getAttribute("aria-valuemax") === String(most)) return;
  meter.setAttribute("aria-valuemax", most);
  meter.setAttribute("aria-valuenow", now);
  meter.firstElementChild.style.width = `${Math.min(1, pending / most) * 100}%`;
}

function isDraining(card) {
  return card.classList.contains("is-draining");
}

function undrain(name) {
  return ask(`admin/backends/${encodeURIComponent(name)}/undrain`, { method: "POST" });
}

async function change(card, button, work, onFailure) {
  const name = card.dataset.key;
  button.disabled = true;
  try {
    await work(name);
    onFailure(null);
  } catch (error) {
    onFailure(`${name}: ${error.message}`);
  } finally {
    button.disabled = false;
  }
}
