// Discovered servers that wait for approval. Except for the kind, everything shown is what they announce.

import { ask } from "./api.js";
import { byId, byName, make, reconcile, setText } from "./dom.js";
import { ago } from "./words.js";

/** Rows below `parent`; `onFailure` is called when an action fails. */
export function pendingRows(parent, { onFailure }) {
  return (servers) => {
    byId("pending").hidden = servers.length === 0;
    const shown = Array.from(servers).sort((a, b) => a.trust.localeCompare(b.trust) || byName(a, b));
    reconcile(parent, shown, { key: ({ name }) => name, create: (server) => row(server, onFailure), update: fill });
  };
}

function row({ name }, onFailure) {
  const cells = ["kind", "url", "host", "source", "seen"].map((fact) => make("td", { "data-fact": fact }));
  const button = (action, label) =>
    make("button", { type: "button", "data-action": action, "aria-label": `${label} ${name}`, click: () => void decide(made, action, onFailure) }, label);
  const made = make("tr", {}, make("th", { scope: "row" }, name), ...cells, make("td", {}, button("approve", "Approve"), " ", button("reject", "Reject")));
  return made;
}

function fill(made, server) {
  const facts = {
    kind: server.backend_type ?? server.last_error ?? "not recognised yet",
    url: server.url,
    host: server.host,
    source: server.discovery_source,
    seen: ago(server.first_seen),
  };
  for (const [name, text] of Object.entries(facts)) setText(made.querySelector(`[data-fact=${name}]`), text);
  const isRejected = server.trust === "rejected";
  made.className = isRejected ? "is-rejected" : "";
  made.dataset.url = server.url;
  made.querySelector("[data-action=approve]").disabled = server.backend_type === null;
  made.querySelector("[data-action=reject]").hidden = isRejected;
}

async function decide(made, action, onFailure) {
  const name = made.dataset.key;
  // The URL makes sure that the decision is about the server shown, not another one with its name.
  const body = JSON.stringify({ url: made.dataset.url });
  const buttons = Array.from(made.querySelectorAll("button"));
  for (const button of buttons) button.disabled = true;
  try {
    await ask(`admin/backends/${encodeURIComponent(name)}/${action}`, { method: "POST", body });
    onFailure(null);
  } catch (error) {
    onFailure(`${name}: ${error.message}`);
    for (const button of buttons) button.disabled = false;
  }
}
