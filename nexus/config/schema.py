"""Every configuration key: its type, its default, and its sentence in the reference."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from nexus.config.discovery_schema import DiscoveryConfig
from nexus.config.section import NotNegative, Positive, Seconds, SecondsOrZero, Section
from nexus.config.translation_schema import TranslationConfig
from nexus.domain.priorities import RequestPriority


class ApiKeyConfig(Section, frozen=True):
    """One key of ``server.api_keys`` with what its clients may do."""

    key: str
    """The key: ``env:NAME``, ``file:PATH`` or ``sha256:HEX``."""
    name: str | None = None
    """What operators are shown instead of the key, which is never shown."""
    max_priority: RequestPriority = "high"
    """The highest priority that ``X-Nexus-Priority`` may ask for with this key; a higher one counts as this."""


class ServerConfig(Section, frozen=True):
    """Where Nexus listens, which requests it accepts, and how many."""

    host: str = "127.0.0.1"
    """The address to bind, or a name, of which each address of this machine is bound. Any but loopback needs
    ``api_keys`` or ``--insecure``. ``0.0.0.0`` binds all IPv4 addresses, ``::`` all IPv6 addresses."""
    port: Annotated[int, Meta(ge=1, le=65535)] = 8000
    """The port to bind, 1 to 65535. A port that is in use is an error if a file, an option or a variable sets it;
    otherwise the next free one is used, with a warning that says where Nexus listens."""
    workers: Annotated[int, Meta(ge=1, le=128)] | Literal["auto"] = 1
    """How many processes serve clients: a number, or ``auto`` for one per core that Nexus may use. With more than 1, a
    parent process checks the backends, keeps the store, and starts a worker that ends again; the limits for concurrent
    requests and for memory count for each worker."""
    reuse_port: bool = False
    """Whether another Nexus of the same user, with the same key, may listen on the port at the same time, and so take
    over before this one stops. Two that run together by mistake then share the clients, where otherwise the second
    would not start."""
    api_keys: tuple[str | ApiKeyConfig, ...] = ()
    """Keys that clients must send, as ``Authorization: Bearer`` or ``x-api-key``: each ``env:NAME``, ``file:PATH`` or
    ``sha256:HEX``, or a table with such a ``key``, a ``name`` that operators are shown, and ``max_priority``, the
    highest priority (``high``, ``normal`` or ``low``) that a request with this key can have. Empty: no key is
    required."""
    admin_keys: tuple[str, ...] = ()
    """Keys for the pages below ``/admin/`` and the changes that they make, written in the same ways; they are valid for
    all other pages too. Empty: ``api_keys`` are valid there, and those pages show the requests of all clients to each
    of them."""
    allowed_hosts: tuple[str, ...] = ()
    """Further names that a ``Host`` header may have; ``*`` allows any name. Always allowed are IP addresses,
    ``localhost``, the name in ``host`` and, if ``host`` is no loopback address, the name of the machine with and
    without ``.local``. Not checked when ``api_keys`` is set and ``host`` is no loopback address."""
    allowed_origins: tuple[str, ...] = ()
    """Web origins whose pages may send requests, such as ``http://localhost:3000``."""
    max_body_bytes: Positive = 64 * 1024 * 1024
    """The largest request body; a longer one is refused with 413 before it is read."""
    max_concurrent_requests: Positive = 10_000
    """Concurrent requests of each worker, including queued ones; one more is refused with 503 ``overloaded``."""
    request_timeout_seconds: Seconds = 600.0
    """The deadline of a whole request that is not streamed, including time in the queue and retries."""
    stream_timeout_seconds: Seconds = 1800.0
    """The same for a streamed request."""
    drain_timeout_seconds: Seconds = 300.0
    """After SIGTERM, how long running requests may take before they are ended with an error event."""
    lame_duck_seconds: SecondsOrZero | None = None
    """After SIGTERM, how long ``/ready`` fails and answers carry ``Connection: close`` while connections are still
    accepted, so that load balancers and clients go elsewhere. Unset: 0 on a loopback address, 5 on any other."""


class TimeoutsConfig(Section, frozen=True):
    """The deadline of each phase, in seconds; each has its own error code."""

    headers_seconds: Seconds = 10.0
    """For the whole head of a request to arrive, however slowly it is sent."""
    body_seconds: Seconds = 30.0
    """For its body, plus one second for each 64 KiB."""
    keepalive_seconds: Seconds = 75.0
    """How long an idle client connection stays open."""
    connect_seconds: Seconds = 3.0
    """For a connection to a backend: name, TCP and TLS together."""
    first_byte_seconds: Seconds | None = None
    """From sending a request to the first content of its streamed answer, not counting comments; unset: the default for
    the kind of the backend. Engines that load a model, queue or read a long prompt send nothing meanwhile; raise it
    before blaming the network. At a backend with more requests than slots, where they wait for their turn, it counts
    from the last sign of work on others for the same model."""
    whole_answer_seconds: Seconds | None = None
    """The same for an answer that is not streamed, which includes the time to generate it. Unset: all of
    ``server.request_timeout_seconds``; half of that leaves time to try another backend."""
    loading_comments_after_seconds: SecondsOrZero = 5.0
    """How long a backend may load a model before a client that waits for a stream of events is sent the head of its
    answer, and a comment every 5 seconds, so that nothing between takes the silence for a failure. The status is 200
    from then on: a later failure is an error event. 0: never."""
    stream_idle_seconds: Seconds = 300.0
    """Between two events of a stream. Comments count: an engine that sends them is working."""
    write_stall_seconds: Seconds = 30.0
    """How long a client may read nothing of an answer before its connection is closed; reading any part of it restarts
    the time."""
    upstream_keepalive_seconds: Seconds = 3.0
    """How long an idle backend connection is kept; most engines close theirs after 5."""
    upstream_max_age_seconds: Seconds = 300.0
    """The highest age of a backend connection that is reused; it is never closed during an answer. Each connection ends
    up to a tenth earlier, so that not all end at once."""


class LimitsConfig(Section, frozen=True):
    """How much of the answers of backends is buffered."""

    max_event_bytes: Positive = 32 * 1024 * 1024
    """The longest event of a stream; a stream with a longer one is ended with ``event_too_large``. The default has room
    for a picture of some megapixels in base64."""
    max_buffered_event_bytes: Positive = 256 * 1024 * 1024
    """The limit for all incomplete events together, not counting the first 64 KiB of each. An event is passed on as
    soon as it is complete, so only streams with long events count."""
    max_held_answer_bytes: Positive = 256 * 1024 * 1024
    """The limit for all buffered answers that are not streamed, not counting the first 64 KiB of each. An answer of up
    to 8 MiB is held until it is complete, so that another backend can be tried if it breaks off, and then until the
    client has read it; one that is translated, of up to 64 MiB. Beyond the limit, an answer is passed on as it arrives;
    one that must be translated is an error then."""


class WeightsConfig(Section, frozen=True):
    """What the smart strategy compares, in percent; the weights must sum to 100."""

    priority: NotNegative = 50
    """The backend's configured priority."""
    load: NotNegative = 30
    """The part of its limit, or of its slots, that is in use."""
    latency: NotNegative = 20
    """Its recent latency."""


class RoutingConfig(Section, frozen=True):
    """Which backend answers."""

    strategy: Literal["smart", "round_robin", "least_loaded", "priority_only", "random"] = "smart"
    """How the backends that all stages accept are ranked."""
    max_retries: NotNegative = 2
    """How many other backends are tried after a failure before the first byte of the answer."""
    weights: WeightsConfig = WeightsConfig()
    """The weights of the smart strategy."""
    aliases: dict[str, str | tuple[str, ...]] = {}
    """Another name for one or several models: a backend is sent the name of the model that it has. A real model of that
    name wins; at most three hops."""
    loose_tags: bool = False
    """Whether a name that no backend has is an alias of the only model that differs from it just in the tag, as
    ``llama3.2`` for ``llama3.2:3b``. If there are several such models, the request is refused with their names."""
    fallbacks: dict[str, tuple[str, ...]] = {}
    """Models to try, in order, when no backend can serve the requested one."""
    default_model: str | None = None
    """The model for requests that name none, by its own name or an alias. Unset: the only model of the fleet; if there
    are several, such a request is refused. Where the backend needs no name, the request is passed on unchanged."""
    policies: tuple[dict[str, Any], ...] = ()
    """Traffic policies, first match wins: ``model_pattern`` (a glob), ``fallback_allowed``, and the keys that installed
    plugins own."""
    priorities: dict[str, int] = {}
    """Priorities of stages by name, instead of those that they declare."""
    observe: tuple[str, ...] = ()
    """Stages that run and record what they would have done, but decide nothing."""


class ModelConfig(Section, frozen=True):
    """Facts about one model on one backend, which override those of the server."""

    context_length: Positive | None = None
    """In tokens."""
    max_output_tokens: Positive | None = None
    """In tokens."""
    vision: bool | None = None
    """Whether it accepts images; with ``false``, it gets no such requests."""
    tools: bool | None = None
    """Whether it calls tools; with ``false``, it gets no such requests."""
    json_mode: bool | None = None
    """Whether it supports JSON output; with ``false``, it gets no such requests."""
    embeddings: bool | None = None
    """Whether it makes embeddings; with ``false``, it gets no such requests."""
    first_byte_seconds: Seconds | None = None
    """The deadline for the first content of a stream, instead of ``timeouts.first_byte_seconds``."""
    max_in_flight: Positive | None = None
    """Concurrent requests for it, within ``max_in_flight`` of the backend; further ones wait."""
    zone: str | None = None
    """``restricted`` or ``open``, in any letter case, for a model whose data goes elsewhere than its backend's."""
    tier: Annotated[int, Meta(ge=1, le=5)] | None = None
    """How capable it is, 1 to 5; unset: the tier of its backend."""


class BackendConfig(Section, frozen=True):
    """One server of the fleet."""

    name: str
    """Its name in headers, logs and metrics: unique, and not ``none``."""
    url: str
    """``http://host:port`` or ``https://host``, with any base path; a trailing ``/`` or ``/v1`` makes no difference. A
    ``user:password@`` before the host is sent as HTTP Basic and never shown."""
    path_is_complete: bool | None = None
    """Whether the path of ``url`` replaces the ``/v1`` in a client's path; unset: if it names a version, as
    ``/v1beta/openai`` and ``/api/paas/v4`` do."""
    type: str = "auto"
    """The kind of server: ollama, vllm, sglang, llamacpp, lmstudio, exo, openai, anthropic, azure, google, generic,
    one that a plugin adds, or ``auto`` to detect it."""
    priority: Annotated[int, Meta(ge=0, le=100)] = 50
    """Lower is preferred, 0 to 100."""
    share: Annotated[float, Meta(gt=0, le=65_535)] = 1.0
    """Its share of the requests relative to equally good backends: with 2, twice as many as a backend with 1. Above 0,
    at most 65535; with a very small share, it gets hardly any requests while others are available."""
    api_key: str | None = None
    """Its key: ``env:NAME`` or ``file:PATH``."""
    api_key_env: str | None = None
    """The same as ``api_key = "env:NAME"``."""
    basic_auth: str | None = None
    """A ``user:password`` for HTTP Basic: ``env:NAME`` or ``file:PATH``."""
    headers: dict[str, str] = {}
    """Headers of every request to it, which replace a client's own. A value ``env:NAME`` or ``file:PATH`` is a secret:
    with one, the credentials of a client are not passed on."""
    query: dict[str, str] = {}
    """Query parameters of every request to it, such as ``api-version``; values as in ``headers``."""
    zone: str | None = None
    """``restricted`` or ``open``, in any letter case; unset: open for cloud kinds, restricted for all others."""
    tier: Annotated[int, Meta(ge=1, le=5)] = 1
    """How capable it is, 1 to 5."""
    max_in_flight: Positive | None = None
    """Concurrent requests to it; further ones wait. Unset: as many as a server of its kind accepts, which is 512 for
    Ollama and 1024 for all others; but if it reports how many it works on at once, requests beyond that, and some
    ahead, wait in the queue of Nexus as long as that is not full."""
    max_loaded_models: Positive | None = None
    """How many models it keeps in memory at once, such as Ollama's ``OLLAMA_MAX_LOADED_MODELS``. A request for one more
    waits while those in memory are in use, so that models do not evict each other again and again. Unset: as the
    server reports, or else as evictions show."""
    retry_unsafe: bool | None = None
    """Whether a request that it may have begun to process may be sent to another backend after a failure; unset: yes
    for local kinds, no for paid ones. After a refusal (401, 402, 403, 429, 501, 503 with ``Retry-After``), nothing was
    begun, so another backend is tried in any case."""
    protocols: tuple[str, ...] | None = None
    """What it speaks: any of openai, ollama and anthropic, or single endpoints such as ``openai.chat``; unset: what its
    kind does. Leave out a protocol for which its own adapter is broken, and requests are translated."""
    accepts_any_model: bool | None = None
    """Whether it gets requests for models that no backend lists, as for a gateway or a server with one model; unset:
    only a llama.cpp that was started for one model and is the whole fleet."""
    tls_verify: bool = True
    """Whether its certificate is checked."""
    tls_ca_file: str | None = None
    """A file of certificate authorities to trust for it, instead of the system's."""
    tls_cert_file: str | None = None
    """The client certificate with its chain, in PEM; the key may be in the same file."""
    tls_key_file: str | None = None
    """The key of ``tls_cert_file``, without a passphrase."""
    https_proxy: str | None = None
    """The HTTP proxy on the way to it, by CONNECT for both ``http`` and ``https``: ``http://host:port``, with
    ``user:password@`` if required; ``env:NAME`` or ``file:PATH`` with such a URL; or ``environment`` to use the
    variables ``https_proxy``, ``http_proxy``, ``all_proxy`` and ``no_proxy``. Unset: none."""
    models: dict[str, ModelConfig] = {}
    """Facts about single models, by name, which override those of the server."""


class HealthCheckConfig(Section, frozen=True):
    """How the health of backends is checked."""

    enabled: bool = True
    """Without it, every configured backend counts as healthy until requests to it fail, and is probed only to list its
    models: at the start, and when a request names a model that no backend has."""
    interval_seconds: Seconds = 30.0
    """Between two probes of a healthy backend; a tenth of it, at least 1 s, after a failed probe. Any other backend is
    probed every second, so that one that restarts is soon used again."""
    timeout_seconds: Seconds = 5.0
    """For one probe. A timeout while requests are running at the backend is no failure: the backend is busy."""
    failure_threshold: Positive = 3
    """Failures in a row that make a healthy backend unhealthy, which is then only tried as a last resort."""
    recovery_threshold: Positive = 2
    """Successes in a row that make an unhealthy one healthy."""
    load_interval_seconds: SecondsOrZero = 2.0
    """Between two reads of what an engine reports about its own load (running and waiting requests), while requests run
    there and for 30 s after them; otherwise it is read with each probe. llama.cpp is read every 5 s at most, and every
    backend less often where more than 100 have requests. 0: never; only the requests of this Nexus are counted."""


class QueueConfig(Section, frozen=True):
    """What happens when every backend that could answer is at its limit."""

    enabled: bool = True
    """Without it, such a request is refused at once with 503 ``overloaded``."""
    max_size: NotNegative | None = None
    """The length of the queue, of all workers together. When it is full, the newest request of the lowest priority is
    refused with 503 ``queue_full``: of the client with the most requests in the queue, if others have fewer. Unset:
    ``server.max_concurrent_requests`` for each worker."""
    max_wait_seconds: Seconds | None = None
    """How long a request may wait before it is refused with 503 ``queue_timeout``. Unset: until its own deadline,
    ``server.request_timeout_seconds`` or ``server.stream_timeout_seconds``. A client can ask for less with
    ``X-Nexus-Queue-Timeout``."""
    max_body_bytes: Positive = 1024 * 1024 * 1024
    """The total size of the bodies of all waiting requests, of all workers together, which are kept in memory; a
    request that exceeds it is treated as if the queue had reached ``max_size``. A larger body waits only while no other
    request does."""


class LoggingConfig(Section, frozen=True):
    """What is logged."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The lowest level that is logged."""
    format: Literal["auto", "pretty", "json"] = "auto"
    """``auto``: pretty on a terminal, JSON otherwise."""
    component_levels: dict[str, Literal["debug", "info", "warning", "error"]] = {}
    """Another level for one component, such as ``routing = "debug"``."""
    enable_content_logging: bool = False
    """Whether the access line shows the beginning of each prompt: at most 100 characters of the last user message.
    Answers, images and keys are never logged."""


class MetricsConfig(Section, frozen=True):
    """Metrics for Prometheus."""

    sanitize_labels: bool = False
    """Whether every special character in names of backends and models is replaced by ``_``, as the dashboards of older
    versions expect. Different names can then become one, and their values are added up."""
    pair_histograms: bool = False
    """Whether the histograms of times are by model *and* backend, rather than by model and, apart from that, by
    backend. With a hundred backends of twenty models each, that makes a page of 8 MB instead of 1.4 MB."""


class OtelConfig(Section, frozen=True):
    """Traces for OpenTelemetry, which need ``pip install nexus-proxy[otel]``. Read at start only. Keys that are unset
    here default to OpenTelemetry's variables, such as ``OTEL_EXPORTER_OTLP_ENDPOINT``."""

    enabled: bool = False
    """Whether requests are traced. Without it, OpenTelemetry is not even imported, and the trace headers of a client
    are passed on to the backend unchanged."""
    endpoint: str | None = None
    """The collector, ``http://host:4318``, to whose ``/v1/traces`` spans are sent as OTLP over HTTP; unset: from the
    variables, or this machine."""
    headers: dict[str, str] = {}
    """Headers for the collector, each value ``env:NAME`` or ``file:PATH``."""
    service_name: str | None = None
    """The ``service.name`` of all spans; unset: from the variables, or ``nexus-proxy``."""
    sample_ratio: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """The share of requests that is traced, 0 to 1, unless the client has decided: the sampled flag of a
    ``traceparent`` wins."""
    timeout_seconds: Seconds = 10.0
    """For one export, including its retries."""


class StoreConfig(Section, frozen=True):
    """Where state is kept that must survive a restart."""

    kind: str = "memory"
    """``memory``, ``sqlite``, or one that a plugin adds."""
    path: str = "nexus.sqlite3"
    """The file of the sqlite store, which only its owner can read. An error if ``kind`` is not set too."""


class PluginLoadingConfig(Section, frozen=True):
    """Which plugins are loaded."""

    required: tuple[str, ...] = ()
    """Plugins without which Nexus does not start, each with an optional version: ``privacy>=1.4``."""
    disabled: tuple[str, ...] = ()
    """Installed plugins that are not loaded."""
    autoload: bool = True
    """Without it, only plugins with a ``[plugins.<name>]`` table are loaded."""


class Config(Section, frozen=True):
    """The whole of ``nexus.toml``."""

    server: ServerConfig = ServerConfig()
    timeouts: TimeoutsConfig = TimeoutsConfig()
    limits: LimitsConfig = LimitsConfig()
    routing: RoutingConfig = RoutingConfig()
    backends: tuple[BackendConfig, ...] = ()
    translation: TranslationConfig = TranslationConfig()
    health_check: HealthCheckConfig = HealthCheckConfig()
    discovery: DiscoveryConfig = DiscoveryConfig()
    queue: QueueConfig = QueueConfig()
    logging: LoggingConfig = LoggingConfig()
    metrics: MetricsConfig = MetricsConfig()
    otel: OtelConfig = OtelConfig()
    store: StoreConfig = StoreConfig()
    plugin_loading: PluginLoadingConfig = PluginLoadingConfig()
    plugins: dict[str, dict[str, Any]] = {}
    """One table per plugin, decoded by the plugin's type."""


def max_waiting(config: Config, workers: int) -> int:
    """Return how many requests may wait at once, in all workers together."""
    max_size = config.queue.max_size
    return workers * config.server.max_concurrent_requests if max_size is None else max_size


class PluginConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The base of a plugin's own table, ``[plugins.<name>]``."""


class PolicyKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of the keys that a plugin adds to ``[[routing.policies]]``.

    A plugin's config class names it: ``policy_keys: ClassVar[type[PolicyKeys]] = MyPolicyKeys``. Each key needs a
    default, which applies to policies without the key. All requests share one object, so the class must be frozen:
    ``class MyPolicyKeys(PolicyKeys, frozen=True)``.
    """
