// Keeps the page fresh. Everything that a server said goes in as text, never as HTML.
"use strict";

const PERIOD_MS = 5000;

async function fetchJson(path) {
  const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(PERIOD_MS) });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

function cell(tag, text) {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

function secondsSince(instant) {
  return instant === null ? "never" : `${Math.max(0, Math.round((Date.now() - Date.parse(instant)) / 1000))} s ago`;
}

function row(backend) {
  const made = document.createElement("tr");
  const name = cell("th", backend.name);
  name.scope = "row";
  name.title = backend.url;
  const status = cell("span", backend.status);
  status.className = `status ${backend.status}`;
  status.title = backend.last_error ?? "";
  const statusCell = document.createElement("td");
  statusCell.append(status);
  const texts = [
    backend.backend_type,
    `${backend.pending_requests} of ${backend.max_in_flight}`,
    backend.avg_latency_ms === null ? "" : `${backend.avg_latency_ms} ms`,
    secondsSince(backend.last_health_check),
    backend.models.map((model) => model.name).join(", ") || "none",
  ];
  made.append(name, statusCell, ...texts.map((text) => cell("td", text)));
  return made;
}

function emptyRow() {
  const made = document.createElement("tr");
  const only = cell("td", "No backends configured");
  only.colSpan = 7;
  made.append(only);
  return made;
}

function clock(seconds) {
  const two = (number) => String(number).padStart(2, "0");
  const days = Math.floor(seconds / 86400);
  const time = `${Math.floor((seconds % 86400) / 3600)}:${two(Math.floor((seconds % 3600) / 60))}:${two(seconds % 60)}`;
  return days === 0 ? time : `${days} ${days === 1 ? "day" : "days"}, ${time}`;
}

function show(health, fleet) {
  const { healthy, total } = health.backends;
  document.getElementById("summary").textContent =
    `${health.status}: ${healthy} of ${total} backends, ${health.models} models, up ${clock(health.uptime_seconds)}`;
  const rows = fleet.backends.length > 0 ? fleet.backends.map(row) : [emptyRow()];
  document.getElementById("backends").replaceChildren(...rows);
}

async function refresh() {
  const freshness = document.getElementById("freshness");
  try {
    show(...(await Promise.all([fetchJson("health"), fetchJson("admin/backends")])));
    freshness.textContent = "";
  } catch (error) {
    freshness.textContent = `These figures are not fresh: ${error.message}`;
  }
  setTimeout(refresh, PERIOD_MS);
}

setTimeout(refresh, PERIOD_MS);
