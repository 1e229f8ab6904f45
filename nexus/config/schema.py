"""Every configuration key: its type, its default, and the sentence that the reference shows."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from nexus.config.discovery_schema import DiscoveryConfig
from nexus.config.section import NotNegative, Positive, Seconds, SecondsOrZero, Section


class ServerConfig(Section, frozen=True):
    """Where Nexus listens, whom it lets in, and how much it takes."""

    host: str = "127.0.0.1"
    """The address to bind, or a name, of which each address is bound that the machine has. Another than loopback needs
    ``api_keys``, or ``--insecure``. ``0.0.0.0`` binds all addresses of IPv4, ``::`` all of IPv6."""
    port: Annotated[int, Meta(ge=1, le=65535)] = 8000
    """The port to bind, 1 to 65535. One that is in use is an error where a file, an option or a variable names it; the
    default is then replaced by the next free one, with a warning that says where Nexus listens."""
    reuse_port: bool = False
    """Whether another Nexus of the same user, with the same key, may listen on the port at the same time, and so take
    over before this one stops. Two that were not meant to run together then share the clients, where otherwise the
    second does not start."""
    api_keys: tuple[str, ...] = ()
    """Keys that clients must send, as ``Authorization: Bearer`` or ``x-api-key``: each ``env:NAME``, ``file:PATH`` or
    ``sha256:HEX``. Empty: no key is asked for."""
    admin_keys: tuple[str, ...] = ()
    """Keys for the pages below ``/admin/`` and for what they change, given in the same ways; they open all else too.
    Empty: one of ``api_keys`` will do, and those pages show the requests of all clients to each of them."""
    allowed_hosts: tuple[str, ...] = ()
    """Further names that a ``Host`` header may carry; ``*`` lets any name in. Every IP address is served, and so are
    ``localhost``, the name in ``host`` and, where ``host`` is no loopback address, the name of the machine, with and
    without ``.local``. Not checked when ``api_keys`` is set and ``host`` is no loopback address."""
    allowed_origins: tuple[str, ...] = ()
    """Web origins whose pages may send requests, such as ``http://localhost:3000``."""
    max_body_bytes: Positive = 64 * 1024 * 1024
    """The largest request body; a longer one is refused with 413 before it is read."""
    max_concurrent_requests: Positive = 10_000
    """Requests under way at once, those that wait among them; one more is refused with 503 ``overloaded``."""
    request_timeout_seconds: Seconds = 600.0
    """The deadline of a whole request that is not streamed, waiting and retries included."""
    stream_timeout_seconds: Seconds = 1800.0
    """The same of a streamed one."""
    drain_timeout_seconds: Seconds = 300.0
    """After SIGTERM, how long answers under way may take before they are ended with an error event."""
    lame_duck_seconds: SecondsOrZero | None = None
    """After SIGTERM, how long ``/ready`` says no and answers carry ``Connection: close`` while connections are still
    accepted, so that load balancers and clients go elsewhere. Unset: 0 on a loopback address, 5 on any other."""


class TimeoutsConfig(Section, frozen=True):
    """The deadline of each phase, in seconds; each has an error code of its own."""

    headers_seconds: Seconds = 10.0
    """For a request's head to arrive whole, however slowly it is sent."""
    body_seconds: Seconds = 30.0
    """For its body, plus one second for each 64 KiB."""
    keepalive_seconds: Seconds = 75.0
    """How long an idle client connection stays open."""
    connect_seconds: Seconds = 3.0
    """For a connection to a backend: name, TCP and TLS together."""
    first_byte_seconds: Seconds | None = None
    """From sending a request to the first content of its streamed answer, whatever comments come before; unset: what is
    usual for the kind of the backend. Engines that load a model, queue or read a long prompt are silent meanwhile;
    raise it before blaming the network. At a backend with more requests than slots, where they wait for their turn, it
    counts from the last sign of work on others for the same model."""
    whole_answer_seconds: Seconds | None = None
    """The same for an answer that is not streamed: it comes in one piece, so its generation is part of the wait. Unset:
    all of ``server.request_timeout_seconds``; half of that leaves time to ask another backend."""
    stream_idle_seconds: Seconds = 300.0
    """Between two events of a stream. Comments count: an engine that sends them is at work."""
    write_stall_seconds: Seconds = 30.0
    """How long a client may take nothing of what was written for it, an answer, a page or the rest of one, before its
    connection is cut. One that takes some of it, however little, begins anew."""
    upstream_keepalive_seconds: Seconds = 3.0
    """How long an idle backend connection is kept; most engines close theirs after 5."""
    upstream_max_age_seconds: Seconds = 300.0
    """How old a backend connection may become that is used again and again; one is never closed in the middle of an
    answer. Each ends up to a tenth earlier, so that not all end at once."""


class LimitsConfig(Section, frozen=True):
    """How much is buffered of what backends answer."""

    max_event_bytes: Positive = 32 * 1024 * 1024
    """The longest event of a stream; a stream with a longer one is ended with ``event_too_large``. The default has room
    for a picture of some megapixels in base64."""
    max_buffered_event_bytes: Positive = 256 * 1024 * 1024
    """The same of all events together that are only partly here, of which the first 64 KiB of each are not counted. An
    event is passed on as soon as it is whole, so only streams of long events need any of it."""
    max_held_answer_bytes: Positive = 256 * 1024 * 1024
    """What is held of all answers together that are not streamed, of which the first 64 KiB of each are not counted. An
    answer is held until it is whole, up to 8 MiB of it, so that another backend can be asked when it breaks off, and
    what the client has not taken is held on. Where there is no room, an answer is passed on as it comes."""


class WeightsConfig(Section, frozen=True):
    """What the smart strategy looks at, in percent; they must sum to 100."""

    priority: NotNegative = 50
    """The backend's configured priority."""
    load: NotNegative = 30
    """The part of its limit, or of its slots, that is in use."""
    latency: NotNegative = 20
    """Its recent latency."""


class RoutingConfig(Section, frozen=True):
    """Which backend answers."""

    strategy: Literal["smart", "round_robin", "least_loaded", "priority_only", "random"] = "smart"
    """How the survivors of all stages are ranked."""
    max_retries: NotNegative = 2
    """How many other backends are tried after a failure that came before the first byte of the answer."""
    weights: WeightsConfig = WeightsConfig()
    """What the smart strategy weighs."""
    aliases: dict[str, str | tuple[str, ...]] = {}
    """Another name for a model, or for several: whichever a backend has is sent to it under its own name. A real model
    of the name wins; at most three hops."""
    loose_tags: bool = False
    """Whether a name that no backend has stands for the one model that differs from it in its tag alone, as
    ``llama3.2`` for ``llama3.2:3b``: the name becomes an alias. Where several do, a request is refused with their
    names."""
    fallbacks: dict[str, tuple[str, ...]] = {}
    """Models to try, in order, when nobody can serve the one asked for."""
    default_model: str | None = None
    """The model that answers requests that name none, by its own name or an alias. Unset: the one model that there is;
    where there are several, such a request is refused. A request goes on as it came where the backend needs no name."""
    policies: tuple[dict[str, Any], ...] = ()
    """Traffic policies, first match wins: ``model_pattern`` (a glob), ``fallback_allowed``, and the keys that installed
    plugins own."""
    priorities: dict[str, int] = {}
    """The place of a stage, by its name, instead of the one that it declares."""
    observe: tuple[str, ...] = ()
    """Stages that run and record what they would have done, and decide nothing."""


class ModelConfig(Section, frozen=True):
    """What the operator knows better than the server about one model on one backend."""

    context_length: Positive | None = None
    """In tokens."""
    max_output_tokens: Positive | None = None
    """In tokens."""
    vision: bool | None = None
    """Whether it takes images; ``false``: it is not asked about any."""
    tools: bool | None = None
    """Whether it calls tools; ``false``: it is not asked to."""
    json_mode: bool | None = None
    """Whether it keeps to a JSON format; ``false``: it is not asked to."""
    embeddings: bool | None = None
    """Whether it makes embeddings; ``false``: it is not asked for any."""
    first_byte_seconds: Seconds | None = None
    """A deadline of its own for the first content of a stream, instead of ``timeouts.first_byte_seconds``."""
    zone: str | None = None
    """``restricted`` or ``open``, in any letter case, for a model whose data goes elsewhere than its backend's."""
    tier: Annotated[int, Meta(ge=1, le=5)] | None = None
    """How capable it is, 1 to 5; unset: as its backend."""


class BackendConfig(Section, frozen=True):
    """One server of the fleet."""

    name: str
    """Unique, and not ``none``; what headers, logs and metrics show."""
    url: str
    """``http://host:port`` or ``https://host``, with any base path; a trailing ``/`` or ``/v1`` makes no difference. A
    ``user:password@`` before the host is sent as HTTP Basic and shown nowhere."""
    path_is_complete: bool | None = None
    """Whether the path of ``url`` takes the place of the ``/v1`` in a client's path; unset: when it names a version, as
    ``/v1beta/openai`` and ``/api/paas/v4`` do."""
    type: str = "auto"
    """The kind of server: ollama, vllm, sglang, llamacpp, lmstudio, exo, openai, anthropic, generic, one that a plugin
    adds, or ``auto`` to find out by asking it."""
    priority: Annotated[int, Meta(ge=0, le=100)] = 50
    """Lower is preferred, 0 to 100."""
    share: Annotated[float, Meta(gt=0, le=65_535)] = 1.0
    """How much of the work it gets, in proportion to others that could do it as well: with 2, twice as many requests as
    an equal one with 1. Above 0, 65535 at most; a very small one is hardly ever asked while others are there."""
    api_key: str | None = None
    """Its key: ``env:NAME`` or ``file:PATH``."""
    api_key_env: str | None = None
    """The same as ``api_key = "env:NAME"``."""
    basic_auth: str | None = None
    """A ``user:password`` for HTTP Basic: ``env:NAME`` or ``file:PATH``."""
    headers: dict[str, str] = {}
    """Further headers of every request to it, in the place of a client's own. A value ``env:NAME`` or ``file:PATH`` is
    a secret: with one, the credentials of a client are not passed on."""
    query: dict[str, str] = {}
    """Parameters that every request to it has in its query, such as ``api-version``; values as in ``headers``."""
    zone: str | None = None
    """``restricted`` or ``open``, in any letter case; unset: open for cloud kinds, restricted for all others."""
    tier: Annotated[int, Meta(ge=1, le=5)] = 1
    """How capable it is, 1 to 5."""
    max_in_flight: Positive | None = None
    """Requests that it is given at once; others wait. Unset: as many as a server of its kind takes without refusing
    one, 512 for Ollama and 1024 for all others."""
    retry_unsafe: bool | None = None
    """Whether a request that was sent here, and may have been begun, may be sent to another backend, whatever went
    wrong then; unset: yes for local kinds, no for paid ones. A refusal (401, 402, 403, 429, 501, 503 with
    ``Retry-After``) has begun nothing, so another backend is asked in any case."""
    protocols: tuple[str, ...] | None = None
    """Which of openai, ollama and anthropic it speaks; unset: what its kind does."""
    accepts_any_model: bool | None = None
    """Whether it is asked for models that no backend lists, as a gateway or a server with one model can be; unset: only
    a llama.cpp that was started for one model, and that is the whole fleet."""
    tls_verify: bool = True
    """Whether its certificate is checked."""
    tls_ca_file: str | None = None
    """A file of certificate authorities to trust for it, instead of the system's."""
    tls_cert_file: str | None = None
    """The certificate to show it, in PEM, with those that lead to its authority; the key may be in the same file."""
    tls_key_file: str | None = None
    """The key of ``tls_cert_file``, without a passphrase."""
    https_proxy: str | None = None
    """The HTTP proxy on the way to it, by CONNECT for ``http`` and ``https`` alike: ``http://host:port``, with
    ``user:password@`` where it wants that; ``env:NAME`` or ``file:PATH`` that lead to one; or ``environment`` for what
    the variables ``https_proxy``, ``http_proxy``, ``all_proxy`` and ``no_proxy`` say. Unset: none."""
    models: dict[str, ModelConfig] = {}
    """Facts about single models, by name, that win over what the server says."""


class HealthCheckConfig(Section, frozen=True):
    """How backends are watched."""

    enabled: bool = True
    """Without it, every configured backend counts as healthy until traffic says otherwise, and is probed only to list
    its models: at the start, and when a request asks for a model that no backend has."""
    interval_seconds: Seconds = 30.0
    """Between two probes of a healthy backend; a tenth of it, at least 1 s, after a failed probe. Any other backend is
    probed every second, so that one that restarts is soon used again."""
    timeout_seconds: Seconds = 5.0
    """For one probe. A timeout while requests are running at the backend is no failure: the backend is busy."""
    failure_threshold: Positive = 3
    """Failures in a row that make a healthy backend unhealthy, which is then asked as a last resort only."""
    recovery_threshold: Positive = 2
    """Successes in a row that make an unhealthy one healthy."""


class QueueConfig(Section, frozen=True):
    """What happens when every backend that could answer is at its limit."""

    enabled: bool = True
    """Without it, such a request is refused at once with 503 ``overloaded``."""
    max_size: NotNegative | None = None
    """Requests that may wait at once; one more is refused with 503 ``queue_full``. Unset: as many as
    ``server.max_concurrent_requests``."""
    max_wait_seconds: Seconds | None = None
    """How long one may wait before it is refused with 503 ``queue_timeout``. Unset: until the request's own deadline,
    ``server.request_timeout_seconds`` or ``server.stream_timeout_seconds``."""


class LoggingConfig(Section, frozen=True):
    """What is written down."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least level that is written."""
    format: Literal["auto", "pretty", "json"] = "auto"
    """``auto``: pretty on a terminal, JSON otherwise."""
    component_levels: dict[str, Literal["debug", "info", "warning", "error"]] = {}
    """Another level for one component, such as ``routing = "debug"``."""
    enable_content_logging: bool = False
    """Whether the access line shows how each prompt begins: at most 100 characters of the last user message. Answers,
    images and keys never are in the log."""


class MetricsConfig(Section, frozen=True):
    """What Prometheus is told."""

    sanitize_labels: bool = False
    """Whether names of backends and models have every odd character replaced by ``_``, as the dashboards of older
    versions expect. Different names can then become one, whose figures are added up."""


class OtelConfig(Section, frozen=True):
    """Traces for OpenTelemetry, for which ``pip install nexus-proxy[otel]`` brings what is needed. Read at start only.
    What is unset here is as the usual variables say, such as ``OTEL_EXPORTER_OTLP_ENDPOINT``."""

    enabled: bool = False
    """Whether exchanges are traced. Without it nothing of OpenTelemetry is even imported, and what a client says of its
    own trace goes on to the backend as it came."""
    endpoint: str | None = None
    """The collector, ``http://host:4318``, to whose ``/v1/traces`` spans are sent as OTLP over HTTP; unset: as the
    variables say, or this machine."""
    headers: dict[str, str] = {}
    """Headers that the collector wants, each value ``env:NAME`` or ``file:PATH``."""
    service_name: str | None = None
    """The ``service.name`` of all spans; unset: as the variables say, or ``nexus-proxy``."""
    sample_ratio: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """The share of requests that is traced, 0 to 1, where the client has not decided: a ``traceparent`` that says that
    its trace is sampled, or is not, is followed."""
    timeout_seconds: Seconds = 10.0
    """For one export, its retries included."""


class StoreConfig(Section, frozen=True):
    """Where the state is kept that must survive a restart."""

    kind: str = "memory"
    """``memory``, ``sqlite``, or one that a plugin adds."""
    path: str = "nexus.sqlite3"
    """The file of the sqlite store; created readable by its owner alone. An error where ``kind`` is not set too."""


class PluginLoadingConfig(Section, frozen=True):
    """Which plugins are loaded."""

    required: tuple[str, ...] = ()
    """Plugins without which Nexus does not start, each with an optional version: ``privacy>=1.4``."""
    disabled: tuple[str, ...] = ()
    """Plugins that are installed and not loaded."""
    autoload: bool = True
    """Without it, only plugins that have a ``[plugins.<name>]`` table are loaded."""


class Config(Section, frozen=True):
    """The whole of ``nexus.toml``."""

    server: ServerConfig = ServerConfig()
    timeouts: TimeoutsConfig = TimeoutsConfig()
    limits: LimitsConfig = LimitsConfig()
    routing: RoutingConfig = RoutingConfig()
    backends: tuple[BackendConfig, ...] = ()
    health_check: HealthCheckConfig = HealthCheckConfig()
    discovery: DiscoveryConfig = DiscoveryConfig()
    queue: QueueConfig = QueueConfig()
    logging: LoggingConfig = LoggingConfig()
    metrics: MetricsConfig = MetricsConfig()
    otel: OtelConfig = OtelConfig()
    store: StoreConfig = StoreConfig()
    plugin_loading: PluginLoadingConfig = PluginLoadingConfig()
    plugins: dict[str, dict[str, Any]] = {}
    """One table per plugin, decoded by the type that the plugin gives."""


def max_waiting(config: Config) -> int:
    """Return how many requests may wait at once."""
    max_size = config.queue.max_size
    return config.server.max_concurrent_requests if max_size is None else max_size


class PluginConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The base of a plugin's own table, ``[plugins.<name>]``."""


class PolicyKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of the keys that a plugin adds to ``[[routing.policies]]``.

    A plugin's config class names it: ``policy_keys: ClassVar[type[PolicyKeys]] = MyPolicyKeys``. Each key needs a
    default, which is what a policy that does not mention it means. One object serves all requests, so it is frozen, and
    says so: ``class MyPolicyKeys(PolicyKeys, frozen=True)``.
    """
