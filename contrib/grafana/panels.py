"""What the dashboard shows, from top to bottom: the table ROWS."""

from typing import NamedTuple

HEIGHT = 8
"""The height of most panels; a screen is about 30 high."""

JOB = 'job=~"$job",instance=~"$instance"'
MODEL = f'{JOB},model=~"$model"'
BACKEND = f'{JOB},backend=~"$backend"'
BOTH = f'{JOB},model=~"$model",backend=~"$backend"'
RATE = "[$__rate_interval]"
FAILED = 'result=~"failed|truncated|stalled|rejected|shut_down",status!~"4.."'


class Query(NamedTuple):
    """One line, or one for each value of the labels in its legend."""

    expr: str
    legend: str


class Panel(NamedTuple):
    """One panel."""

    title: str
    unit: str
    description: str
    """What it shows, and what to do."""
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    width: int = 8
    stacked: bool = False
    maximum: float | None = None
    """The top of the axis; None: automatic."""
    words: tuple[tuple[int, str, str], ...] = ()
    """Names of numbers, and their colours."""


class Row(NamedTuple):
    """Panels that belong together."""

    title: str
    panels: tuple[Panel, ...]
    height: int = HEIGHT


def quantiles(metric: str, labels: str) -> tuple[Query, ...]:
    """Return p50, p95 and p99 of a histogram over all series with *labels*."""
    buckets = f"sum by (le) (rate({metric}_bucket{{{labels}}}{RATE}))"
    return tuple(Query(f"histogram_quantile({q}, {buckets})", f"p{round(q * 100)}") for q in (0.5, 0.95, 0.99))


def quantile_by(quantile: float, metric: str, labels: str, by: str) -> Query:
    """Return one quantile of a histogram for each value of the label *by*."""
    expr = f"histogram_quantile({quantile}, sum by (le, {by}) (rate({metric}_bucket{{{labels}}}{RATE})))"
    return Query(expr, f"{{{{{by}}}}}")


def rates(metric: str, labels: str, *by: str) -> Query:
    """Return the rate of a counter for each value of the labels *by*."""
    legend = " ".join(f"{{{{{label}}}}}" for label in by)
    return Query(f"sum by ({', '.join(by)}) (rate({metric}{{{labels}}}{RATE}))", legend)


def total(metric: str, labels: str, legend: str) -> Query:
    """Return the rate of a counter, everything together."""
    return Query(f"sum(rate({metric}{{{labels}}}{RATE}))", legend)


def gauges(metric: str, labels: str, *by: str) -> Query:
    """Return the sum of a gauge for each value of the labels *by*."""
    return Query(f"sum by ({', '.join(by)}) ({metric}{{{labels}}})", " ".join(f"{{{{{label}}}}}" for label in by))


def summed(metric: str, labels: str, legend: str) -> Query:
    """Return the sum of a gauge."""
    return Query(f"sum({metric}{{{labels}}})", legend)


GOOD, FAIR, BAD = "green", "orange", "red"

GLANCE = Row(
    "At a glance",
    (
        Panel(
            "Healthy backends",
            "short",
            "Backends that may be given requests.",
            (summed("nexus_backends_healthy", JOB, "healthy"),),
            "stat",
            4,
        ),
        Panel(
            "Backends",
            "short",
            "Backends in the fleet.",
            (summed("nexus_backends_total", JOB, "backends"),),
            "stat",
            4,
        ),
        Panel(
            "Models",
            "short",
            "Models that a healthy backend has.",
            (Query(f"max(nexus_models_available{{{JOB}}})", "models"),),
            "stat",
            4,
        ),
        Panel(
            "Requests",
            "reqps",
            "Finished requests to models.",
            (total("nexus_requests_total", BOTH, "requests"),),
            "stat",
            4,
        ),
        Panel(
            "Failures",
            "percentunit",
            "The share of requests that were answered with 5xx, or whose answer broke off.",
            (
                Query(
                    f"sum(rate(nexus_requests_total{{{BOTH},{FAILED}}}{RATE}))"
                    f" / sum(rate(nexus_requests_total{{{BOTH}}}{RATE}))",
                    "failed",
                ),
            ),
            "stat",
            4,
        ),
        Panel(
            "Configuration",
            "short",
            "Whether the newest configuration is in force; if not, /ready says why.",
            (Query(f"max(nexus_config_reload_rejected{{{JOB}}})", "rejected"),),
            "stat",
            4,
            words=((0, "in force", GOOD), (1, "rejected", BAD)),
        ),
    ),
    height=4,
)

TRAFFIC = Row(
    "Traffic",
    (
        Panel(
            "Requests by status",
            "reqps",
            "The statuses that clients got. 499: they left before.",
            (rates("nexus_requests_total", BOTH, "status"),),
            stacked=True,
        ),
        Panel(
            "Requests by result",
            "reqps",
            "A stream that breaks after 200 is truncated; a request that a stage refuses is rejected.",
            (rates("nexus_requests_total", BOTH, "result"),),
            stacked=True,
        ),
        Panel(
            "Errors by code",
            "reqps",
            "Errors reported by Nexus, by code; a backend's own error is only in the statuses.",
            (rates("nexus_errors_total", MODEL, "error_type"),),
        ),
        Panel(
            "Retries, failovers, fallbacks",
            "reqps",
            "Further attempts by the previous failure; requests that another backend then answered; requests "
            "for which a fallback model was asked.",
            (
                Query(f"sum by (reason) (rate(nexus_retries_total{{{JOB}}}{RATE}))", "retry: {{reason}}"),
                Query(f"sum by (reason) (rate(nexus_failovers_total{{{JOB}}}{RATE}))", "failover: {{reason}}"),
                total("nexus_fallbacks_total", JOB, "fallback"),
            ),
        ),
        Panel(
            "Requests by backend",
            "reqps",
            "The backend that answered; none: no backend was asked.",
            (rates("nexus_requests_total", BOTH, "backend"),),
            stacked=True,
        ),
        Panel(
            "Requests by model",
            "reqps",
            "The name that was sent to the backend; other: unknown names.",
            (rates("nexus_requests_total", BOTH, "model"),),
            stacked=True,
        ),
        Panel(
            "Refused at once, left early",
            "reqps",
            "Requests that failed the access checks, which no other panel includes; clients that left, by phase.",
            (
                Query(f"sum by (reason) (rate(nexus_rejected_total{{{JOB}}}{RATE}))", "refused: {{reason}}"),
                Query(f"sum by (phase) (rate(nexus_client_disconnects_total{{{JOB}}}{RATE}))", "left in {{phase}}"),
            ),
        ),
        Panel(
            "Requests by endpoint",
            "reqps",
            "The endpoints that clients use, and whether they request a stream.",
            (
                Query(
                    f"sum by (endpoint, stream) (rate(nexus_endpoint_requests_total{{{JOB}}}{RATE}))",
                    "{{endpoint}} stream={{stream}}",
                ),
            ),
        ),
        Panel(
            "Tokens",
            "short",
            "Tokens per second, as counted by the backends.",
            (rates("nexus_tokens_total", BOTH, "type"),),
        ),
        Panel(
            "Bytes",
            "Bps",
            "Bodies of requests and of answers.",
            (
                total("nexus_request_bytes_total", BOTH, "in"),
                total("nexus_response_bytes_total", BOTH, "out"),
            ),
        ),
    ),
)

LATENCY = Row(
    "Latency",
    (
        Panel(
            "Time to first token",
            "s",
            "For streams, from a request's first byte to the first content, with waiting and retries; of all backends.",
            quantiles("nexus_time_to_first_token_seconds", MODEL),
        ),
        Panel(
            "Duration",
            "s",
            "The duration of whole requests, streamed or not; of all backends.",
            quantiles("nexus_request_duration_seconds", MODEL),
        ),
        Panel(
            "Time between tokens",
            "s",
            "The mean within each stream; of all backends.",
            quantiles("nexus_time_between_tokens_seconds", MODEL),
        ),
        Panel(
            "Time to first token by backend (p95)",
            "s",
            "Which backend is slow to begin.",
            (quantile_by(0.95, "nexus_backend_time_to_first_token_seconds", BACKEND, "backend"),),
        ),
        Panel(
            "Time to first token by model (p95)",
            "s",
            "Which model is slow to begin.",
            (quantile_by(0.95, "nexus_time_to_first_token_seconds", MODEL, "model"),),
        ),
        Panel(
            "Tokens per second of one stream (median)",
            "short",
            "The generation speed of each backend.",
            (quantile_by(0.5, "nexus_tokens_per_second", BACKEND, "backend"),),
        ),
    ),
)

FLEET = Row(
    "Fleet",
    (
        Panel(
            "Health",
            "short",
            "The status of each backend. /admin/backends has the last error of each.",
            (Query(f'max by (backend) (nexus_backend_status{{{BACKEND},status="healthy"}})', "{{backend}}"),),
            "state-timeline",
            12,
            words=((0, "not healthy", BAD), (1, "healthy", GOOD)),
        ),
        Panel(
            "Breaker",
            "short",
            "Open: recent requests failed, and it gets none. Half open: one at a time.",
            (
                Query(
                    f'max by (backend) (2 * nexus_breaker_state{{{BACKEND},state="open"}}'
                    f' + on (job, instance, backend) nexus_breaker_state{{{BACKEND},state="half_open"}})',
                    "{{backend}}",
                ),
            ),
            "state-timeline",
            12,
            words=((0, "closed", GOOD), (1, "half open", FAIR), (2, "open", BAD)),
        ),
        Panel(
            "In flight",
            "short",
            "Requests running at each backend.",
            (gauges("nexus_pending_requests", BACKEND, "backend"),),
        ),
        Panel(
            "Reported by engines",
            "short",
            "Requests of all clients at each backend, as its engine reports them; what exceeds those in flight is of"
            " other clients.",
            (gauges("nexus_backend_reported_requests", BACKEND, "backend", "state"),),
        ),
        Panel(
            "Slots in use",
            "percentunit",
            "The used share of what each backend gets before requests wait in the queue of Nexus, at 100 %.",
            (
                Query(
                    f"sum by (backend) (nexus_pending_requests{{{BACKEND}}})"
                    f" / sum by (backend) (nexus_backend_effective_limit{{{BACKEND}}})",
                    "{{backend}}",
                ),
            ),
            maximum=1,
        ),
        Panel(
            "Capacity",
            "short",
            "How many requests each backend works on at once, and how that is known: configured, reported by the"
            " server, learned, or usual for its kind.",
            (Query(f"max by (backend, source) (nexus_backend_capacity{{{BACKEND}}})", "{{backend}} {{source}}"),),
        ),
        Panel(
            "Models loaded, swaps postponed",
            "short",
            "Loads of a model into memory per second that requests have caused, and how often requests began to wait"
            " because loading their model would have evicted one in use.",
            (
                total("nexus_model_loads_total", BACKEND, "loaded"),
                total("nexus_model_swaps_postponed_total", BACKEND, "postponed"),
            ),
        ),
        Panel(
            "Failed attempts",
            "reqps",
            "Failed attempts at a backend, by fault.",
            (rates("nexus_attempt_failures_total", BACKEND, "backend", "fault"),),
        ),
        Panel(
            "Queue",
            "short",
            "Requests that wait because all suitable backends are at their limit.",
            (
                summed("nexus_queue_depth", JOB, "waiting"),
                summed("nexus_queue_max_size", JOB, "at most"),
            ),
        ),
        Panel(
            "Results of waiting",
            "reqps",
            "Drained: the request got a slot. Timed out: it waited too long, so more slots or backends are needed. "
            "Made room, found no room: the queue was full.",
            (
                total("nexus_queue_enqueued_total", JOB, "began to wait"),
                total("nexus_queue_drained_total", JOB, "drained"),
                total("nexus_queue_timeout_total", JOB, "timed out"),
                total("nexus_queue_left_total", JOB, "left"),
                total("nexus_queue_shed_total", JOB, "made room"),
                total("nexus_queue_refused_total", JOB, "found no room"),
            ),
        ),
        Panel(
            "Time in the queue",
            "s",
            "In all cases.",
            quantiles("nexus_queue_wait_seconds", JOB),
        ),
        Panel(
            "Upstream connections",
            "short",
            "Open connections, including idle ones.",
            (gauges("nexus_upstream_connections", BACKEND, "backend"),),
        ),
        Panel(
            "Connections reused",
            "percentunit",
            "The share of attempts that reused a connection. Near 0 if a server closes it after each answer.",
            (
                Query(
                    f"sum by (backend) (rate(nexus_upstream_connections_reused_total{{{BACKEND}}}{RATE}))"
                    f" / (sum by (backend) (rate(nexus_upstream_connections_reused_total{{{BACKEND}}}{RATE}))"
                    f" + sum by (backend) (rate(nexus_upstream_connections_opened_total{{{BACKEND}}}{RATE})))",
                    "{{backend}}",
                ),
            ),
            maximum=1,
        ),
        Panel(
            "Probes",
            "ops",
            "Results of probes. Unreadable: the server is healthy, but its list of models is invalid.",
            (rates("nexus_probes_total", BACKEND, "backend", "result"),),
        ),
        Panel(
            "Models without a healthy backend",
            "short",
            "No backend could serve these now; 1 for each instance that reports it.",
            (Query(f"count by (model) (nexus_model_backends_healthy{{{MODEL}}} == 0)", "{{model}}"),),
        ),
    ),
)

ROUTING = Row(
    "Routing",
    (
        Panel(
            "Pipeline",
            "s",
            "The time of all stages together for a request.",
            quantiles("nexus_pipeline_duration_seconds", JOB),
        ),
        Panel(
            "Stages (p99)",
            "s",
            "The time of each stage for a request.",
            (quantile_by(0.99, "nexus_reconciler_duration_seconds", JOB, "reconciler"),),
        ),
        Panel(
            "Exclusions",
            "ops",
            "Backends that stages excluded; /v1/route/decisions says for which requests, and why.",
            (rates("nexus_reconciler_exclusions_total", JOB, "reconciler"),),
        ),
        Panel(
            "Failures of stages and plugins",
            "ops",
            "Anything here is a bug: the log names it (stage_skipped, stage_failed).",
            (
                rates("nexus_reconciler_failures_total", JOB, "reconciler", "part"),
                Query(f"sum by (plugin) (rate(nexus_observer_failures_total{{{JOB}}}{RATE}))", "{{plugin}} observing"),
            ),
        ),
        Panel(
            "Slow stages and plugins",
            "ops",
            "Each call blocked all requests for more than 50 ms.",
            (
                rates("nexus_reconciler_slow_total", JOB, "reconciler", "part"),
                Query(f"sum by (plugin) (rate(nexus_observer_slow_total{{{JOB}}}{RATE}))", "{{plugin}} observing"),
            ),
        ),
        Panel(
            "Switched off, only observing",
            "short",
            "Stages that are skipped until the next reload; verdicts per second of stages that only observe.",
            (
                Query(f"max by (reconciler) (nexus_reconciler_switched_off{{{JOB}}})", "{{reconciler}} is off"),
                rates("nexus_reconciler_observed_total", JOB, "reconciler", "verdict"),
            ),
        ),
    ),
)

PLUGINS = Row(
    "Plugins",
    (
        Panel(
            "Budget",
            "currencyUSD",
            "Spent in this month by all processes, and the limit.",
            (
                Query(f"max by (billing_month) (nexus_budget_spending_usd{{{JOB}}})", "spent in {{billing_month}}"),
                Query(f"max(nexus_budget_limit_usd{{{JOB}}})", "limit"),
                summed("nexus_budget_reserved_usd", JOB, "reserved for running requests"),
            ),
        ),
        Panel(
            "Budget used",
            "percent",
            "Of the monthly limit.",
            (
                Query(
                    f"max by (billing_month) (nexus_budget_utilization_percent{{{JOB}}})",
                    "{{billing_month}}",
                ),
            ),
        ),
        Panel(
            "Spending per hour",
            "currencyUSD",
            "By model, at the pace of the last hour.",
            (Query(f"sum by (model) (increase(nexus_budget_cost_usd_total{{{BOTH}}}[1h]))", "{{model}}"),),
            stacked=True,
        ),
        Panel(
            "Refused and unpriced",
            "ops",
            "Backends that were refused for a request, by reason; requests at an assumed price.",
            (
                Query(f"sum by (reason) (rate(nexus_budget_refused_total{{{JOB}}}{RATE}))", "refused: {{reason}}"),
                Query(f"sum by (model) (rate(nexus_budget_unpriced_total{{{BOTH}}}{RATE}))", "unpriced: {{model}}"),
            ),
        ),
        Panel(
            "Ledger",
            "short",
            "Whether the common ledger is reachable; if not, limited requests are refused.",
            (
                Query(
                    f"min by (instance) (nexus_budget_ledger_reachable{{{JOB}}})",
                    "{{instance}}",
                ),
            ),
            "state-timeline",
            words=((0, "out of reach", BAD), (1, "reached", GOOD)),
        ),
        Panel(
            "Privacy",
            "ops",
            "Requests that had to stay in the restricted zone, and the backends that were excluded from them.",
            (
                Query(f"sum by (by) (rate(nexus_privacy_requests_restricted_total{{{JOB}}}{RATE}))", "by {{by}}"),
                total("nexus_privacy_backends_excluded_total", JOB, "backends excluded"),
            ),
        ),
        Panel(
            "Affinity: prompts in caches",
            "percentunit",
            "The share of all prompts that was expected in the cache of the backend that got them.",
            (
                Query(
                    f"sum(rate(nexus_affinity_cached_blocks_total{{{JOB}}}{RATE}))"
                    f" / sum(rate(nexus_affinity_prompt_blocks_total{{{JOB}}}{RATE}))",
                    "of all prompts",
                ),
            ),
            maximum=1,
        ),
        Panel(
            "Quality: errors of the last hour",
            "percentunit",
            "The share of failures of each model on each backend.",
            (
                Query(
                    f"max by (backend, model) (nexus_quality_error_rate_1h{{{BOTH}}})",
                    "{{model}} on {{backend}}",
                ),
            ),
            maximum=1,
        ),
        Panel(
            "Quality: avoided and slow",
            "short",
            "1 while a model on a backend is avoided, or weighed down.",
            (
                Query(
                    f"max by (backend, model) (nexus_quality_avoided{{{BOTH}}})", "{{model}} on {{backend}}: avoided"
                ),
                Query(f"max by (backend, model) (nexus_quality_slow{{{BOTH}}})", "{{model}} on {{backend}}: slow"),
            ),
        ),
        Panel(
            "Tier",
            "ops",
            "Requests that need more than tier 1, and answers from below the wanted tier.",
            (
                rates("nexus_tier_requests_total", JOB, "mode"),
                total("nexus_tier_downgrades_total", JOB, "downgraded"),
                total("nexus_tier_backends_excluded_total", JOB, "backends excluded"),
                total("nexus_tier_backends_avoided_total", JOB, "backends avoided"),
            ),
        ),
    ),
)

PROCESS = Row(
    "Process",
    (
        Panel(
            "Event loop lag",
            "s",
            "The delay of the event loop, which affects every request. A blocking stage or plugin shows here.",
            quantiles("nexus_event_loop_lag_seconds", JOB),
        ),
        Panel(
            "Memory",
            "bytes",
            "Resident memory.",
            (gauges("process_resident_memory_bytes", JOB, "instance"),),
        ),
        Panel(
            "CPU",
            "percentunit",
            "Of one core: a process uses one, so start a second one well before 100 %.",
            (rates("process_cpu_seconds_total", JOB, "instance"),),
        ),
        Panel(
            "Running",
            "short",
            "Requests, including waiting ones, and connections of clients.",
            (
                summed("nexus_requests_in_flight", JOB, "requests"),
                summed("nexus_client_connections", JOB, "connections"),
            ),
        ),
        Panel(
            "Log lines dropped",
            "ops",
            "Lines that were dropped because the queue was full: the disk or pipe of the log is too slow.",
            (rates("nexus_log_lines_dropped_total", JOB, "instance"),),
        ),
        Panel(
            "File descriptors",
            "short",
            "Each stream uses two.",
            (
                Query(f"sum by (instance) (process_open_fds{{{JOB}}})", "{{instance}}"),
                Query(f"min(process_max_fds{{{JOB}}})", "at most"),
            ),
        ),
        Panel(
            "Versions",
            "short",
            "The running versions, and how many of each.",
            (Query(f"count by (version, python) (nexus_build_info{{{JOB}}})", "{{version}} on Python {{python}}"),),
            "stat",
        ),
        Panel(
            "Uptime",
            "s",
            "How long each process has been running.",
            (Query(f"time() - max by (instance) (process_start_time_seconds{{{JOB}}})", "{{instance}}"),),
            "stat",
        ),
    ),
)

ROWS = (GLANCE, TRAFFIC, LATENCY, FLEET, ROUTING, PLUGINS, PROCESS)
