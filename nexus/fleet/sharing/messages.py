"""What the process that has the fleet and those that follow it send each other."""

from collections.abc import Mapping
from typing import Any

import msgspec

from nexus.config.schema import BackendConfig
from nexus.domain.engine_report import EngineReport
from nexus.domain.outcome import AttemptOutcome
from nexus.domain.shared_load import Elsewhere
from nexus.fleet.added import Dropped
from nexus.fleet.discovery.approval.applicants import Applicant
from nexus.fleet.discovery.files.declared import Clash
from nexus.fleet.discovery.origins import Origin
from nexus.fleet.sharing.rows import SentSettings


class SentBackend(msgspec.Struct, frozen=True, array_like=True):
    """A new or changed row."""

    row: bytes
    settings: SentSettings | None = None
    """How it is reached; None: as usual."""


class SentRows(msgspec.Struct, frozen=True, array_like=True):
    """``fleet.rows``, and the answer to ``fleet.follow``: a change of the fleet."""

    backends: tuple[SentBackend, ...]
    removed: tuple[str, ...] = ()
    """The ids of backends that have left."""


class SentLoad(msgspec.Struct, frozen=True, array_like=True):
    """``fleet.loads``: what is known of the load of one backend."""

    id: str
    told: EngineReport | None
    no_report: str
    restarts: int
    probe_latency_ms: int | None
    elsewhere: Elsewhere
    """The requests of all other processes."""
    counts_successes: bool
    """Whether good answers of the backend are to be reported, too."""


class SentCounts(msgspec.Struct, frozen=True, array_like=True):
    """``fleet.counts``: the requests of one process at one backend."""

    id: str
    load: Elsewhere
    begun: int
    """The attempts that have begun since the last such message."""


class SentOutcome(msgspec.Struct, frozen=True, array_like=True):
    """``fleet.outcomes``: how one attempt ended."""

    backend_id: str
    outcome: AttemptOutcome
    retry_after_s: float | None


class NotHaving(msgspec.Struct, frozen=True, array_like=True):
    """``fleet.lacks``: a backend does not have a model, or not with an endpoint."""

    backend_id: str
    model: str
    endpoint: str = ""
    """Empty: it does not have the model at all."""


class SentFile(msgspec.Struct, frozen=True):
    """A watched file."""

    configs: tuple[BackendConfig, ...]
    taken_unix_s: float | None
    failure: str | None
    failed_unix_s: float | None


class SentPages(msgspec.Struct, frozen=True):
    """``fleet.pages``: what only the pages for operators need."""

    applicants: tuple[Applicant, ...] = ()
    announced: frozenset[str] = frozenset()
    """The names of all servers that have announced themselves."""
    found: tuple[tuple[str, str, int], ...] = ()
    """How many servers were found, by source and decision."""
    files: Mapping[str, SentFile] = {}
    clashes: tuple[Clash, ...] = ()
    added: tuple[tuple[BackendConfig, bool], ...] = ()
    """The backends that administrators have added, and whether they survive a restart."""
    dropped: tuple[Dropped, ...] = ()
    origins: Mapping[str, Origin] = {}
    next_probes: Mapping[str, float | None] = {}
    are_decisions_kept: bool = False
    probes: Mapping[str, Mapping[str, int]] = {}
    """The results of probes, by backend."""
    probe_latencies: Mapping[str, tuple[list[int], float]] = {}
    """Of successful ones, the counts and the sum of the histogram."""
    reads: Mapping[str, Mapping[str, int]] = {}
    """The results of reads of loads, by backend."""


class Draining(msgspec.Struct, frozen=True, array_like=True):
    """``fleet.drain``: a question to drain a backend, or to return it to service."""

    name: str
    is_draining: bool


class Decision(msgspec.Struct, frozen=True, array_like=True):
    """``fleet.decide``: a question to approve or to reject a server that announced itself."""

    name: str
    is_approved: bool
    url: str | None


class Change(msgspec.Struct, frozen=True, array_like=True):
    """``fleet.change``: a question to add, change or remove a backend at runtime."""

    name: str | None
    """None: add one."""
    table: Mapping[str, Any] | None
    """None: remove it."""
    persist: bool | None


class Refused(msgspec.Struct, frozen=True, array_like=True):
    """Why the fleet has refused: the class of the exception by name, and its arguments."""

    error: str
    text: str
    key: str = ""
    path: tuple[str | int, ...] = ()
    hint: str = ""


class Done(msgspec.Struct, frozen=True, array_like=True):
    """The answer to a question that changes the fleet."""

    refused: Refused | None = None
    config: BackendConfig | None = None
    """Of the backend that was added or changed."""
