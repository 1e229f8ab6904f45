// One decision, stage by stage, about a past request or a hypothetical one.

import { ask } from "./api.js";
import { byId, make, setText } from "./dom.js";
import { dollars, milliseconds, NONE } from "./words.js";

/** Open the drawer on the decision about a request of the list. */
export async function openDecision(request) {
  await open(`Why ${request.model ?? "this request"}?`, () => ask(`v1/route/decisions/${encodeURIComponent(request.request_id)}`), request);
}

/** Open the drawer on the decision that a request with these properties would get now. */
export async function openExplanation({ endpoint, model, more, isRestricted }) {
  await open(`What if ${model}?`, async () => {
    const body = { ...(more.trim() === "" ? {} : JSON.parse(more)), model };
    return ask(`v1/route/explain?endpoint=${encodeURIComponent(endpoint)}`, {
      method: "POST",
      body: JSON.stringify(body),
      headers: isRestricted ? { "X-Nexus-Privacy": "restricted" } : {},
    });
  });
}

async function open(title, load, request = null) {
  const drawer = byId("drawer");
  const body = byId("drawer-body");
  setText(byId("drawer-title"), title);
  body.replaceChildren(make("p", { class: "quiet" }, "…"));
  if (!drawer.open) drawer.showModal();
  try {
    body.replaceChildren(...explanation(await load(), request));
  } catch (error) {
    const gone = error.status === 404 ? "This decision is not kept any more; the last thousand are." : error.message;
    body.replaceChildren(make("p", { class: "notice" }, gone));
  }
}

function explanation(record, request) {
  return [
    verdict(record.decision),
    request === null ? null : money(request),
    outcome(record.outcome),
    ...whyNot(record.why_not),
    ...record.rounds.flatMap((round, index) => roundParts(round, index, record.rounds.length)),
    policies(record.policies),
    make("p", { class: "quiet" }, `Request ${record.id}, ${requestWords(record.request)}`),
  ].filter((part) => part !== null);
}

function verdict(decision) {
  switch (decision.decision) {
    case "route":
      return make("p", {}, make("strong", {}, decision.backend), ` is asked for ${decision.model}: ${decision.reason ?? decision.route_reason}`);
    case "queue":
      return make("p", {}, `It waits: ${decision.full.join(", ")} could answer and is at its limit.`);
    default:
      return make(
        "div",
        {},
        make("p", { class: "notice" }, `${decision.status ?? ""} ${decision.code}: ${decision.message}`),
        list(decision.helps, (help) => [help], "What would help"),
      );
  }
}

function money({ cost_usd: cost }) {
  return cost === null || cost === undefined ? null : make("p", {}, `It cost ${dollars(cost)}.`);
}

function outcome(outcome) {
  if (outcome === null) return null;
  const words = `${outcome.status}${outcome.code ? ` ${outcome.code}` : ""}, ${outcome.ending.replaceAll("_", " ")} after ${milliseconds(outcome.duration_ms)}`;
  const attempts = outcome.attempts.map(
    (a) => `${a.backend}: ${a.ending.replaceAll("_", " ")}${a.fault ? ` (${a.fault})` : ""}, ${milliseconds(a.duration_ms)}`,
  );
  return make("div", {}, make("p", {}, `How it ended: ${words}`), list(attempts.length > 1 ? attempts : [], (a) => [a], "Attempts"));
}

function whyNot(reasons) {
  return [list(reasons, ({ backend, why }) => [make("strong", {}, backend), `: ${why}`], "Why not the others")];
}

function roundParts({ models, tries }, index, count) {
  const title = count > 1 ? [make("h3", {}, `Round ${index + 1}${tries > 1 ? `, after ${tries} tries` : ""}`)] : [];
  return [...title, ...models.flatMap((model, position) => modelParts(model, position))];
}

function modelParts(model, position) {
  const name = model.resolved === model.requested ? model.requested : `${model.requested} → ${model.resolved}`;
  return [
    make("h3", {}, `${position > 0 ? "Fallback " : ""}${name}`),
    make("p", { class: "quiet" }, `Candidates: ${Object.keys(model.candidates).join(", ") || "none"}`),
    known(model),
    ...model.stages.map(stage),
    ranking(model.ranking),
  ].filter((part) => part !== null);
}

/** List what the stages knew of each candidate: its load, its capacity, what it has in memory. */
function known({ notes, stages }) {
  if (notes.length > 0) {
    const items = notes.flatMap(({ backend, text }, index) => [
      index > 0 && notes[index - 1].backend === backend ? null : make("dt", {}, backend),
      make("dd", {}, text),
    ]);
    return make("dl", { class: "known" }, ...items);
  }
  const wasAsked = stages.some((stage) => stage.facts !== null);
  if (wasAsked || stages.length === 0) return null;
  return make("p", { class: "quiet" }, "The load of each candidate is recorded for requests with X-Nexus-Explain: 1. The form Explain shows it as it is now.");
}

function stage(stage) {
  const said = [
    ...stage.excluded.map((r) => remark("excludes", r)),
    ...stage.avoided.map((r) => remark("avoids", r)),
    ...stage.weighed.map((r) => remark(`weighs by ${r.factor}`, r)),
    ...stage.would_have.map((r) => remark("would have excluded", r)),
  ];
  const time = stage.microseconds === null ? "" : `, ${stage.microseconds.toFixed(0)} µs`;
  const facts = stage.facts !== null && Object.keys(stage.facts).length > 0 ? stage.facts : null;
  return make(
    "div",
    { class: said.length > 0 ? "stage spoke" : "stage" },
    make("p", {}, make("strong", {}, stage.stage), make("span", { class: "quiet" }, ` ${stage.priority}${time}${stage.is_idle ? ", idle" : ""}${stage.observes ? ", observes only" : ""}`)),
    said.length > 0 ? make("ul", {}, ...said) : make("p", { class: "quiet" }, stage.was_skipped ? "It failed and was skipped: see the log" : "No objection"),
    facts && make("details", {}, make("summary", {}, "What it knew"), make("pre", {}, JSON.stringify(facts, null, 2))),
  );
}

function remark(verb, { backend, reason, suggested_action: action }) {
  return make("li", {}, `${verb} `, make("strong", {}, backend), `: ${reason}${action ? `. ${action}` : ""}`);
}

function ranking(choices) {
  if (choices.length === 0) return null;
  const items = choices.map((choice) => {
    const parts = choice.parts.map((p) => `${p.name} ${p.value ?? NONE} gives ${number(p.adds)}`).join(", ");
    const factors = choice.factors.map(({ stage, factor }) => ` × ${factor} (${stage})`).join("");
    const notes = [choice.is_avoided && "only as a last resort", choice.is_full && "cannot take it now"].filter(Boolean).join(", ");
    return make(
      "li",
      {},
      make("strong", {}, choice.backend),
      ` ${number(choice.score)}${notes ? ` (${notes})` : ""}`,
      parts ? make("span", { class: "quiet" }, ` ${parts}${factors}`) : null,
    );
  });
  return make("div", {}, make("p", {}, "Ranking"), make("ol", {}, ...items));
}

function policies(applied) {
  const words = ({ index, model_pattern: pattern, keys }) => [`${index}: ${pattern} ${JSON.stringify(keys)}`];
  return list(applied, words, "Traffic policies that apply");
}

function list(items, words, title) {
  if (items.length === 0) return null;
  return make("div", {}, make("h3", {}, title), make("ul", {}, ...items.map((item) => make("li", {}, ...words(item)))));
}

function number(value) {
  return Number.isInteger(value) ? String(value) : value.toFixed(2);
}

function requestWords({ path, is_stream: isStream, prompt_tokens: tokens, max_tokens: most, needs, hints }) {
  const parts = [
    `${path}${isStream ? ", streamed" : ""}`,
    `about ${tokens} tokens of prompt`,
    most === null ? null : `at most ${most} for the answer`,
    needs.length > 0 ? `needs ${needs.join(", ")}` : null,
    ...Object.entries(hints).map(([name, value]) => `${name}: ${value}`),
  ];
  return parts.filter((part) => part !== null).join(", ");
}
