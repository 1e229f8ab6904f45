// The tiles, the charts, the budget and the plugins: everything that is drawn from the whole overview.

import { lineChart } from "./charts.js";
import { byId, make, reconcile, setText } from "./dom.js";
import { count, dollars, percent, rate, seconds, span } from "./words.js";

const HOUR_STEPS = 360;
const FIRST = "first";
const SECOND = "second";

export function charts() {
  const requests = lineChart(byId("chart-requests"), {
    title: "Requests per second",
    series: [
      { name: "all", className: FIRST },
      { name: "failed", className: SECOND },
    ],
    format: rate,
  });
  const firstToken = lineChart(byId("chart-first-token"), {
    title: "Time to first token",
    series: [
      { name: "p50", className: FIRST },
      { name: "p95", className: SECOND },
    ],
    format: seconds,
  });
  const tokens = lineChart(byId("chart-tokens"), {
    title: "Tokens per second",
    series: [{ name: "generated", className: FIRST }],
    format: rate,
  });
  const spend = lineChart(byId("chart-spend"), {
    title: "Spend this month",
    series: [{ name: "spend", className: FIRST }],
    format: dollars,
  });

  return ({ hour, budget }) => {
    const { step_s: stepS, until_unix_s: until, points } = hour;
    // The current step is not over: its rate would always be too low.
    const whole = points.length > 1 ? points.slice(0, -1) : points;
    // Shortly after the start, most of the hour has no values.
    const before = Array(Math.max(0, HOUR_STEPS - whole.length)).fill(null);
    const column = (index, per = 1) => [...before, ...whole.map((point) => (point[index] === null ? null : point[index] / per))];
    const at = { stepS, until: until - (points.length > 1 ? stepS : 0) };
    requests.show({ ...at, values: [column(0, stepS), column(1, stepS)] });
    tokens.show({ ...at, values: [column(2, stepS)] });
    firstToken.show({ ...at, values: [column(3), column(4)] });
    byId("chart-spend").hidden = !budget;
    if (budget) spend.show({ ...at, values: [column(5)], limit: budget.monthly_limit_usd });
  };
}

export function showTiles(overview) {
  const { requests, queue, rejections, workers } = overview;
  // A request whose client left has neither succeeded nor failed.
  const judged = requests.total - requests.results.client_left;
  const tiles = [
    ["Up", span(overview.uptime_seconds)],
    ["Requests", count(requests.total)],
    ["Succeeded", judged ? percent(requests.results.finished / judged) : "–"],
    ["Rejected, 5 min", count(rejections.reduce((sum, { requests: some }) => sum + some, 0))],
    ["In flight", count(overview.in_flight)],
    ["Waiting", `${count(queue.depth)} of ${count(queue.max_size)}`],
  ];
  // Only with several workers: of how many these figures are.
  if (workers) tiles.push(["Workers", `${count(workers.answered)} of ${count(workers.answered + workers.silent.length)}`]);
  reconcile(byId("tiles"), tiles, {
    key: ([label]) => label,
    create: ([label]) => make("div", {}, make("dt", {}, label), make("dd")),
    update: (tile, [, value]) => setText(tile.lastElementChild, value),
  });
}

/** Recent requests that Nexus refused itself, which no card of a backend shows. */
export function showRejections(rejections) {
  const place = byId("rejections");
  place.hidden = rejections.length === 0;
  reconcile(place, rejections, {
    key: ({ by, code }) => `${by} ${code}`,
    create: () => make("li", {}, make("strong"), make("span")),
    update: (item, { by, code, requests, reason }) => {
      setText(item.firstElementChild, by ?? (code ?? "rejected").replaceAll("_", " "));
      const some = requests === 1 ? "1 request" : `${count(requests)} requests`;
      setText(item.lastElementChild, `: ${some} rejected in the last 5 minutes: ${reason}`);
    },
  });
}

export function showBudget(budget) {
  const place = byId("budget");
  place.hidden = !budget;
  if (!budget) return;
  const spent = Number(budget.current_spending_usd);
  const limit = budget.monthly_limit_usd === null ? null : Number(budget.monthly_limit_usd);
  if (place.childElementCount === 0) place.append(make("h3", {}, "Budget"), make("meter", { min: 0, "aria-label": "Spend" }), make("p"));
  const [, meter, words] = place.children;
  meter.hidden = limit === null;
  if (limit !== null) {
    meter.max = limit;
    meter.high = (limit * (budget.soft_limit_threshold ?? 100)) / 100;
    meter.value = spent;
  }
  const of = limit === null ? "no limit" : `of ${dollars(limit)} in ${budget.billing_month}, ${budget.status}`;
  setText(words, `${dollars(spent)} ${of}${budget.next_reset_date ? `; begins anew on ${budget.next_reset_date}` : ""}`);
}

function stateOf({ enabled, reason, stages }) {
  if (!enabled) return reason;
  const off = stages.filter((stage) => stage.switched_off).map(({ name }) => `${name} is switched off for its failures`);
  const observing = stages.filter((stage) => stage.observes_only).map(({ name }) => `${name} observes only`);
  return [...off, ...observing].join("; ") || "enabled";
}

export function showPlugins(plugins) {
  reconcile(byId("plugin-rows"), plugins, {
    key: ({ name }) => name,
    create: ({ name }) =>
      make("tr", {}, make("th", { scope: "row" }, name), make("td"), make("td"), make("td")),
    update: (row, plugin) => {
      const [, distribution, stages, state] = row.children;
      setText(distribution, `${plugin.distribution} ${plugin.version}`.trim());
      setText(stages, plugin.stages.map(({ name, priority }) => `${name} (${priority})`).join(", ") || "–");
      setText(state, stateOf(plugin));
    },
  });
  byId("no-plugins").hidden = plugins.length > 0;
}
