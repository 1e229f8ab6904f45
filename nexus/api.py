"""Everything that a plugin may import; all other modules are internal and may change without notice."""

from nexus import tasks
from nexus.config.schema import PluginConfig, PolicyKeys, StoreConfig
from nexus.domain.backend import Backend, Breaker, Status
from nexus.domain.engine_report import EngineReport, NoReport
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.kinds import BackendKind, FactsLookup, LoadLookup, ModelListing, ServerFacts, ServerLookup
from nexus.domain.measure import Measure, Sample
from nexus.domain.model import ModelFacts, Zone
from nexus.domain.outcome import AttemptOutcome, Ending, ExchangeOutcome, Result
from nexus.domain.request import PROMPT_BLOCK_BYTES, Endpoint, Requirements, TokenUsage
from nexus.domain.routes import AdminReply, AdminRoute
from nexus.error_codes import UpstreamFault
from nexus.errors import ConfigError, LimitReached, StoreError, StoreOutcomeUnknown
from nexus.fleet.discovery.discoverer import Discovered, Discoverer
from nexus.hookspecs import hookimpl
from nexus.routing.intent import RoutingIntent, Verdict
from nexus.routing.stage.api import Hold, Priority, Reconciler, Refusal
from nexus.store.shared import Renewal, SharedStore, SlotClaim, SlotLease
from nexus.store.store import Add, AddIfAtMost, Delete, Put, Store

__all__ = [
    "PROMPT_BLOCK_BYTES",
    "Add",
    "AddIfAtMost",
    "AdminReply",
    "AdminRoute",
    "AttemptOutcome",
    "Backend",
    "BackendKind",
    "Breaker",
    "ConfigError",
    "Delete",
    "Discovered",
    "Discoverer",
    "Ending",
    "Endpoint",
    "EngineReport",
    "ExchangeOutcome",
    "FactsLookup",
    "FleetSnapshot",
    "Hold",
    "LimitReached",
    "LoadLookup",
    "Measure",
    "ModelFacts",
    "ModelListing",
    "NoReport",
    "PluginConfig",
    "PolicyKeys",
    "Priority",
    "Put",
    "Reconciler",
    "Refusal",
    "Renewal",
    "Requirements",
    "Result",
    "RoutingIntent",
    "Sample",
    "ServerFacts",
    "ServerLookup",
    "SharedStore",
    "SlotClaim",
    "SlotLease",
    "Status",
    "Store",
    "StoreConfig",
    "StoreError",
    "StoreOutcomeUnknown",
    "TokenUsage",
    "UpstreamFault",
    "Verdict",
    "Zone",
    "hookimpl",
    "tasks",
]
