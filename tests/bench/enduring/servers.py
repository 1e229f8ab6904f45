"""The simulated fleet of the soak, its configuration, and the faults that it plays."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import accumulate
from random import Random
from typing import Final

import aiohttp
import msgspec

from nexus.simulator import (
    Cut,
    Decline,
    Drip,
    ErrorEvent,
    Fault,
    HangUp,
    Heartbeats,
    HugeEvent,
    Refuse,
    Reset,
    Settings,
    SimulatedModel,
    Simulator,
    Stall,
    Status,
    in_thread,
)
from nexus.testing.fleets import backend_table, table_of
from nexus.testing.ports import free_port
from tests.support.process import simulator_process

KEYS: Final = ("soak-key-of-the-first-team", "soak-key-of-the-second-team", "soak-key-of-the-third-team")
LIMIT: Final = 6
"""``max_in_flight`` of the backend *gpu-1*; its model *narrow* is at no other."""
FAULT_EVERY_S: Final = 1.5
RESTART_EVERY_S: Final = 40.0

CONFIG: Final = """
[server]
workers = 2
drain_timeout_seconds = 5
api_keys = [
    {keys}
]
[timeouts]
first_byte_seconds = 4.0
whole_answer_seconds = 6.0
stream_idle_seconds = 3.0
write_stall_seconds = 4.0
keepalive_seconds = 10.0
upstream_max_age_seconds = 15.0
[health_check]
interval_seconds = 3.0
[store]
kind = "sqlite"
[discovery]
enabled = false
[queue]
max_size = 200
max_wait_seconds = 5.0
[routing]
max_retries = 2
loose_tags = true
aliases = {{ any = ["llama3", "qwen3"] }}
fallbacks = {{ qwen3 = ["llama3"] }}
policies = [{{ model_pattern = "narrow", min_tier = 2, max_cost_per_request = 1000 }}]
[plugin_loading]
disabled = ["kubernetes", "redis"]
[plugins.budget]
monthly_limit_usd = 100000
hard_limit_action = "block_all"
sync_interval_seconds = 0.5
[[plugins.budget.prices]]
model = "*"
input_usd_per_1m = 1.0
output_usd_per_1m = 2.0
[plugins.quality]
ttft_penalty_threshold_ms = 1000
[plugins.affinity]
max_index_bytes = 262144
"""

Making = Callable[[Random], Sequence[Fault]]

FAULTS: Final[Sequence[Making]] = (
    lambda chance: [Stall(phase="before_headers", times=1)],
    lambda chance: [Stall(phase="mid_stream", after_events=chance.randint(1, 4), times=1)],
    lambda chance: [Drip(interval_s=0.002, times=1)],
    lambda chance: [
        Cut(after_events=chance.randint(0, 5), ending=chance.choice(("reset", "close", "terminate")), times=2)
    ],
    lambda chance: [Refuse(for_s=chance.uniform(0.5, 2.0), kills_active=chance.random() < 0.5)],
    lambda chance: [Status(status=500, times=2), Status(status=503, retry_after="1", times=1)],
    lambda chance: [Status(status=429, retry_after="1", times=2)],
    lambda chance: [Status(status=200, headers={"Connection": "close"}, body="{}", times=1)],
    lambda chance: [HangUp(at=chance.choice(("accept", "request")), times=3)],
    lambda chance: [Reset(times=3)],
    lambda chance: [Decline(reason=chance.choice(("overloaded", "rate_limited", "too_long")), times=2)],
    lambda chance: [ErrorEvent(after_events=chance.randint(0, 2), times=1)],
    lambda chance: [Heartbeats(for_s=0.5, times=2)],
    lambda chance: [HugeEvent(size=chance.randint(1, 4) * 262_144, times=1)],
)


class Fleet(msgspec.Struct, frozen=True):
    """Simulators in a thread, and one that is a process and is restarted now and then."""

    simulators: tuple[Simulator, ...]
    restarted_port: int

    @property
    def config(self) -> str:
        keys = ",\n    ".join(
            f'{{ key = "env:SOAK_KEY_{number}", name = "team-{number}" }}' for number, _ in enumerate(KEYS)
        )
        first, *others = self.simulators
        tables = table_of(first, max_in_flight=LIMIT, tier=3, priority=10)
        tables += "".join(table_of(simulator, tier=2, max_in_flight=64) for simulator in others)
        restarted = backend_table("restarted", f"http://127.0.0.1:{self.restarted_port}", tier=2, type="generic")
        return CONFIG.format(keys=keys) + tables + restarted

    def most_at_once(self, since: float) -> int:
        """Return how many requests the narrow backend had at once since then, on the monotonic clock."""
        records = [record for record in self.simulators[0].requests if record.began >= since and record.body]
        ends = [record.ended for record in records if record.ended is not None]
        steps = sorted([*((record.began, 1) for record in records), *((ended, -1) for ended in ends)])
        return max(accumulate(step for _, step in steps), default=0)

    @property
    def environ(self) -> dict[str, str]:
        return {f"SOAK_KEY_{number}": key for number, key in enumerate(KEYS)}


@contextmanager
def running_fleet() -> Iterator[Fleet]:
    """Run the simulators that are in the thread."""
    embedder = SimulatedModel("embedder", capabilities=("embedding",))
    vision = SimulatedModel("qwen3", capabilities=("completion", "tools", "vision"))
    gpu = Settings(
        name="gpu-1", kind="vllm", models=("narrow", "llama3"), ttft_s=0.05, tokens_per_s=100, cache_tokens=50_000
    )
    swapping = Settings(
        name="gpu-2", kind="ollama", models=(vision, embedder, "slow-1", "slow-2"), load_s=1.0, max_loaded=2
    )
    cpp = Settings(name="gpu-3", kind="llamacpp", models=("llama3",), tokens_per_s=80, concurrency=4)
    plain = Settings(name="gpu-4", kind="generic", models=("llama3", vision), tokens_per_s=200, answer_tokens=40)
    simulators = tuple(Simulator(settings) for settings in (gpu, swapping, cpp, plain))
    with in_thread(*simulators):
        yield Fleet(simulators, free_port())


async def play_faults(fleet: Fleet, until: float) -> int:
    """Set faults at random until then, and none afterwards; return how many."""
    chance, loop, played = Random(5), asyncio.get_running_loop(), 0
    timeout = aiohttp.ClientTimeout(total=2)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(force_close=True)) as session:
        while loop.time() < until:
            await asyncio.sleep(FAULT_EVERY_S)
            simulator = chance.choice(fleet.simulators)
            body = msgspec.json.encode(chance.choice(FAULTS)(chance))
            # One that refuses connections cannot be asked; it has its fault.
            with suppress(aiohttp.ClientError, TimeoutError):
                async with session.put(f"{simulator.url}/_simulator/fault", data=body) as answer:
                    played += answer.status == 200
        # A refusal ends by itself.
        await asyncio.sleep(2.5)
        for simulator in fleet.simulators:
            async with session.delete(f"{simulator.url}/_simulator/fault") as answer:
                answer.raise_for_status()
    return played


async def restart(fleet: Fleet, over: asyncio.Event) -> int:
    """Run the server that is a process, kill it and start it again now and then, until the event; return how often."""
    times = 0
    words = (
        "--name",
        "restarted",
        "--port",
        str(fleet.restarted_port),
        "--model",
        "llama3",
        "--tokens-per-second",
        "100",
    )
    while not over.is_set():
        running = simulator_process(*words)
        await asyncio.to_thread(running.__enter__)
        with suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), RESTART_EVERY_S)
        await asyncio.to_thread(running.__exit__, None, None, None)
        times += 1
    return times - 1
