"""All lanes, in the order in which they are measured."""

from contextlib import ExitStack
from typing import Final

from comparing import measuring, memory, turns
from comparing.deciding import decisions
from comparing.figures import Figure
from comparing.lane import Bench, Lane, Rounds, each_target
from comparing.pages import pages
from comparing.proxies import NEXUS, Proxy, nexus, nexus_without_access_lines, nexus_without_plugins
from comparing.starting import Started, started


def _memory(bench: Bench, number: int) -> Rounds:
    del number  # Each starts anew, so that none comes after another.
    return {proxy.name: memory.of(proxy, bench) for proxy in bench.proxies}


def _stalls(bench: Bench, number: int) -> Rounds:
    del number
    with ExitStack() as running:
        fresh = [running.enter_context(started(proxy, bench.upstreams, bench.cores)) for proxy in bench.proxies]
        return memory.after_stalls(fresh, bench.extent.wait_s)


def _access_lines(bench: Bench, number: int) -> Rounds:
    del number
    with ExitStack() as running:
        logged, unlogged = _side_by_side(bench, running, nexus(), nexus_without_access_lines())
        return {NEXUS: turns.access_lines(logged, unlogged, bench.generator, bench.extent.seconds)}


def _plugins(bench: Bench, number: int) -> Rounds:
    del number
    with ExitStack() as running:
        with_plugins, without = _side_by_side(bench, running, nexus(), nexus_without_plugins())
        return {NEXUS: turns.plugins(with_plugins, without, bench.generator, bench.extent.seconds)}


def _side_by_side(bench: Bench, running: ExitStack, one: Proxy, other: Proxy) -> tuple[Started, Started]:
    """Start both, each as fresh as the other."""
    first, second = (running.enter_context(started(proxy, bench.upstreams[:1], bench.cores)) for proxy in (one, other))
    return first, second


LANES: Final = {
    lane.name: lane
    for lane in (
        Lane(
            name="paced",
            text="Streams at the speed of a model: 500 of them, about 64 events each, 50 a second. Each event is read "
            "and written by itself.",
            measure=each_target(measuring.paced, with_upstream=True),
            figures=(Figure.CPU_PER_PACED_EVENT, Figure.DELAY_P50, Figure.DELAY_P99),
            is_quick=True,
        ),
        Lane(
            name="short",
            text="Requests of about 800 bytes with JSON answers of about 500: on 32 connections, one at a time, and "
            "arriving at random.",
            measure=each_target(measuring.short, with_upstream=True),
            figures=(
                Figure.CPU_PER_REQUEST,
                Figure.P50,
                Figure.P99,
                Figure.ADDED_P50,
                Figure.ADDED_P99,
                Figure.REQUESTS_PER_S,
                Figure.RATE_IN_TIME,
                Figure.ACCESS_LINES,
            ),
            is_quick=True,
        ),
        Lane(
            name="burst",
            text="Streams of about 64 events that the upstream writes as fast as it can, on 32 connections; the "
            "first event with one stream at a time.",
            measure=each_target(measuring.burst, with_upstream=True),
            figures=(Figure.CPU_PER_EVENT, Figure.EVENTS_PER_S, Figure.FIRST_EVENT_P50, Figure.FIRST_EVENT_P99),
            is_quick=True,
        ),
        Lane(
            name="agent",
            text="Conversations of an agent: bodies of about 100 kB with 30 tools, each answered with a burst of "
            "about 64 events.",
            measure=each_target(measuring.agent, with_upstream=False),
            figures=(Figure.CPU_PER_AGENT_REQUEST,),
            is_quick=True,
        ),
        Lane(
            name="images",
            text="Requests with an image of about 1 MB in base64, and short answers.",
            measure=each_target(measuring.images, with_upstream=False),
            figures=(Figure.CPU_PER_IMAGE,),
        ),
        Lane(
            name="embeddings",
            text="64 texts in a request, embeddings of about 1 MB in the answer.",
            measure=each_target(measuring.embeddings, with_upstream=False),
            figures=(Figure.CPU_PER_EMBEDDINGS,),
        ),
        Lane(
            name="memory",
            text="Resident memory of a new process: after its first answer, with 1 000 streams that have begun and "
            "then send nothing, and after short requests, bursts, images and embeddings. Memory that processes of one "
            "proxy share counts for each of them.",
            measure=_memory,
            figures=(
                Figure.START_UP,
                Figure.RSS_AT_REST,
                Figure.RSS_HELD,
                Figure.RSS_PER_STREAM,
                Figure.RSS_AFTER_LOAD,
                Figure.LOST_STREAMS,
            ),
            is_once=True,
        ),
        Lane(
            name="stalls",
            text="Resident memory of a new process when 200 clients ask for answers of 10 MB and do not read them.",
            measure=_stalls,
            figures=(Figure.RSS_STALLED, Figure.RSS_AFTER_STALL, Figure.RSS_LATER),
            is_once=True,
        ),
        Lane(
            name="log",
            text="A second Nexus that logs only errors of requests answers in turn with one that has the defaults, one "
            "request at a time; neither has another load.",
            measure=_access_lines,
            figures=(Figure.P99_UNLOGGED, Figure.P50_OVER_UNLOGGED, Figure.P99_OVER_UNLOGGED),
            is_of_nexus=True,
        ),
        Lane(
            name="plugins",
            text="A second Nexus without plugins gets the same load of short requests in turn with one that has all of "
            "them, none configured.",
            measure=_plugins,
            figures=(Figure.ADDED_BY_PLUGINS,),
            is_of_nexus=True,
        ),
        Lane(
            name="stages",
            text="A decision in this process, with the stages of all plugins, policies, failing backends and models in "
            "turn; more below.",
            measure=decisions,
            figures=(Figure.DECISION_2, Figure.DECISION_20, Figure.DECISION_100, Figure.DECISION_LONG),
            is_of_nexus=True,
        ),
        Lane(
            name="pages",
            text="Pages of 100 backends with 20 models each, in this process.",
            measure=pages,
            figures=(Figure.STATS_PAGE, Figure.METRICS_STEP, Figure.METRICS_SIZE),
            is_of_nexus=True,
        ),
    )
}
"""By name: what ``--lane`` takes."""
