// The matrix of models: what each can do, and which backends have it.

import { make, reconcile, setText } from "./dom.js";
import { context } from "./words.js";

const CAPABILITIES = [
  ["supports_vision", "vision"],
  ["supports_tools", "tools"],
  ["supports_json_mode", "JSON"],
  ["supports_embeddings", "embeddings"],
];
const MAX_NAMED = 6;

export function modelRows(body, { filter }) {
  return (models) => {
    const shown = models.filter(filter);
    reconcile(body, shown, { key: ({ name }) => name, create: row, update: fill });
    return shown.length;
  };
}

function row({ name }) {
  return make(
    "tr",
    {},
    make("th", { scope: "row" }, name),
    make("td", { class: "can" }),
    make("td", { class: "context number" }),
    make("td", { class: "who" }),
  );
}

function fill(row, { backends, ...model }) {
  const [, can, length, who] = row.children;
  reconcile(can, capabilities(model), { key: (word) => word, create: (word) => make("span", { class: "badge" }, word) });
  setText(length, context(longest(backends, model.name)));
  const named = backends.slice(0, MAX_NAMED);
  reconcile(who, [...named, ...(backends.length > named.length ? [null] : [])], {
    key: (backend) => backend?.name ?? "",
    create: (backend) => make("span", { class: "who-has-it" }, backend?.name ?? ""),
    update: (child, backend) => {
      child.className = backend === null ? "more" : `who-has-it is-${backend.status}`;
      if (backend === null) setText(child, `and ${backends.length - named.length} more`);
    },
  });
}

function capabilities(model) {
  const words = CAPABILITIES.filter(([fact]) => model[fact]).map(([, word]) => word);
  return words.length > 0 ? words : ["basic"];
}

function longest(backends, name) {
  const known = backends.flatMap(({ models }) => models.filter((m) => m.name === name)).map((m) => m.context_length);
  const lengths = known.filter((length) => length !== null);
  return lengths.length > 0 ? Math.max(...lengths) : null;
}
