// The page: the feed updates the state, and each frame draws the changes.

import { addingForm } from "./adding.js";
import { ask, keep } from "./api.js";
import { openDecision, openExplanation } from "./decision.js";
import { byId, make, oncePerFrame, reconcile, setText } from "./dom.js";
import { Feed } from "./feed.js";
import { fleetCards } from "./fleet.js";
import { modelRows } from "./models.js";
import { charts, showBudget, showPlugins, showRejections, showTiles } from "./panels.js";
import { pendingRows } from "./pending.js";
import { isFailure, matches, requestRows } from "./requests.js";
import { State } from "./state.js";
import { span } from "./words.js";

const CONNECTIONS = {
  live: "Live",
  polling: "Every 5 s: the live feed cannot be had",
  lost: "Not connected: these figures are not fresh",
  locked: "Locked: a key is needed",
};

const state = new State();
let isPaused = false;

const wanted = (id) => byId(id).value.trim().toLowerCase();
const showCards = fleetCards(byId("cards"), {
  filter: ({ name, status }) => name.toLowerCase().includes(wanted("fleet-find")) && !(byId("fleet-sick").checked && status === "healthy"),
  onFailure: notice,
});
const showModels = modelRows(byId("model-rows"), { filter: ({ name }) => name.toLowerCase().includes(wanted("models-find")) });
const showRequests = requestRows(byId("request-rows"), {
  filter: (request) => matches(request, wanted("requests-find")) && !(byId("requests-failed").checked && !isFailure(request)) && ["", request.result].includes(byId("requests-result").value),
  onOpen: (request) => void openDecision(request),
});
const showPending = pendingRows(byId("pending-rows"), { onFailure: notice });
const showCharts = charts();
addingForm({ kinds: () => state.overview?.kinds ?? [] });

/** Draws what changes many times a second. */
const drawLive = oncePerFrame(() => {
  if (!state.isReady) return;
  showTiles(state.overview);
  showRejections(state.overview.rejections);
  showPending(state.overview.pending);
  empty("no-backends", showCards(state.backends), state.backends.size, "No backends configured", "No backend matches");
  if (!isPaused) drawRequests();
});
const drawModels = oncePerFrame(() => {
  if (!state.isReady) return;
  const models = state.models();
  empty("no-models", showModels(models), models.length, "No models available", "No model matches");
  reconcile(byId("model-names"), models, { key: ({ name }) => name, create: ({ name }) => make("option", { value: name }) });
});
const drawHour = oncePerFrame(() => {
  if (!state.isReady) return;
  showCharts(state.overview);
  showBudget(state.overview.budget);
  showPlugins(state.overview.plugins);
  const { status, health, uptime_seconds: up } = state.overview;
  const { healthy, total } = health;
  setText(byId("summary"), `${status}: ${healthy} of ${total} backends, models: ${state.models().length}, up ${span(up)}`);
});

function drawRequests() {
  empty("no-requests", showRequests(state.requests), state.requests.length, "No requests recorded yet", "No request matches");
}

function drawAll() {
  drawLive();
  drawModels();
  drawHour();
}

function empty(id, shown, all, none, noMatch) {
  const words = byId(id);
  words.hidden = shown > 0;
  setText(words, all === 0 ? none : noMatch);
}

function notice(text) {
  const place = byId("notice");
  place.hidden = !text;
  setText(place, text ?? "");
}

const feed = new Feed({
  onOverview(overview) {
    state.replace(overview);
    notice(null);
    drawAll();
  },
  onUpdate(type, data) {
    state.update(type, data);
    drawLive();
    if (type === "ModelChange" || type === "BackendStatus" || type === "BackendRemoved") drawModels();
    if (type === "Figures") drawHour();
  },
  onState(name) {
    const place = byId("connection");
    place.hidden = false;
    place.className = `connection is-${name}`;
    setText(place, CONNECTIONS[name]);
    if (name === "locked") unlock();
  },
});

function unlock() {
  const dialog = byId("lock");
  if (!dialog.open) dialog.showModal();
}

byId("lock-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  keep(byId("lock-key").value);
  try {
    await ask("admin/overview");
    byId("lock").close();
    byId("lock-key").value = "";
    feed.start();
  } catch (error) {
    byId("lock-wrong").hidden = false;
    if (error.status !== 401) setText(byId("lock-wrong"), error.message);
    keep(null);
  }
});

for (const id of ["fleet-find", "fleet-sick"]) byId(id).addEventListener("input", drawLive);
byId("models-find").addEventListener("input", drawModels);
for (const id of ["requests-find", "requests-failed", "requests-result"]) byId(id).addEventListener("input", drawRequests);
byId("requests-pause").addEventListener("click", ({ currentTarget: button }) => {
  isPaused = !isPaused;
  button.setAttribute("aria-pressed", String(isPaused));
  setText(button, isPaused ? "Go on" : "Pause");
  if (!isPaused) drawRequests();
});
byId("explain-form").addEventListener("submit", (event) => {
  event.preventDefault();
  void openExplanation({
    endpoint: byId("explain-endpoint").value,
    model: byId("explain-model").value,
    more: byId("explain-body").value,
    isRestricted: byId("explain-restricted").checked,
  });
});
byId("drawer").addEventListener("click", (event) => {
  if (event.target === event.currentTarget) event.currentTarget.close();
});

feed.start();
