"""What the pages for operators need of a fleet, as a message and back."""

from collections import defaultdict

from nexus.config.one_backend import LoadedBackend
from nexus.config.schema import BackendConfig
from nexus.config.secrets import Credentials
from nexus.fleet.discovery.files.watched_file import Entry, FileState
from nexus.fleet.fleet import Fleet
from nexus.fleet.loads.counts import ReadCounts, ReadResult
from nexus.fleet.membership.member import Member
from nexus.fleet.probing.counts import ProbeCounts
from nexus.fleet.sharing.messages import SentFile, SentPages
from nexus.observability.metrics.histogram import DURATION_BUCKETS_S, Histogram


def pages_of(fleet: Fleet) -> SentPages:
    """Return what pages need of *fleet*."""
    added, probes = fleet.added, fleet.probe_counts
    ids = fleet.snapshot.by_id
    return SentPages(
        applicants=fleet.applicants,
        announced=fleet.announced_names,
        found=tuple((source, trust, count) for (source, trust), count in fleet.found_counts.items()),
        files={
            path: SentFile(
                tuple(entry.member.config for entry in state.entries),
                state.taken_unix_s,
                state.failure,
                state.failed_unix_s,
            )
            for path, state in fleet.files.items()
        },
        clashes=tuple(fleet.clashes),
        added=tuple((config, added.is_persistent(config.name)) for config in added.configs()),
        dropped=added.dropped,
        origins={backend_id: fleet.origin_of(backend_id) for backend_id in ids},
        next_probes={backend_id: fleet.next_probe_at(backend_id) for backend_id in ids},
        are_decisions_kept=fleet.are_decisions_kept,
        probes=probes.results,
        probe_latencies={name: (each.counts, each.sum) for name, each in probes.latencies.items()},
        reads={
            name: {str(result): count for result, count in each.items()}
            for name, each in fleet.read_counts.results.items()
        },
    )


def member_of(config: BackendConfig) -> Member:
    """Return the member that *config* describes, as far as pages need it."""
    return Member(config=config, kind=None)


def file_state(sent: SentFile) -> FileState:
    """Return the state of a watched file, without secrets."""
    entries = (
        Entry(
            loaded=LoadedBackend(config=config, key=None, credentials=Credentials(), secrets=()),
            certificates=(),
            member=member_of(config),
        )
        for config in sent.configs
    )
    return FileState(
        entries=tuple(entries),
        taken_unix_s=sent.taken_unix_s,
        failure=sent.failure,
        failed_unix_s=sent.failed_unix_s,
    )


def note_counts(sent: SentPages, probes: ProbeCounts, reads: ReadCounts) -> None:
    """Replace the counts in *probes* and *reads* by those that were sent."""
    probes.results = {name: defaultdict(int, results) for name, results in sent.probes.items()}
    probes.latencies.clear()
    for name, (counts, total) in sent.probe_latencies.items():
        histogram = probes.latencies[name] = Histogram(DURATION_BUCKETS_S)
        histogram.counts, histogram.sum = counts, total
    reads.results = {
        name: defaultdict(int, {ReadResult(result): count for result, count in each.items()})
        for name, each in sent.reads.items()
    }
