"""Simulates inference servers that speak the OpenAI, Ollama and Anthropic APIs, with a given speed, limits and faults.

It imports nothing of Nexus, so that the two cannot share a mistake::

    async with Simulator(Settings(name="gpu-1", kind="vllm", ttft_s=0.2, tokens_per_s=50)) as simulator:
        simulator.faults.set(Cut(after_events=3, times=1))
        ...  # talk to simulator.url
        assert simulator.aborted == ()

================================================  ==========================================================
``server``, ``settings``, ``threads``, ``demo``   a simulated server, its settings, and ways to run it
``listener``, ``connection``, ``access``          accept connections, parse requests, check keys
``kinds``, ``dialects``, ``status``               the routes of each kind of server, and how kinds differ
``figures``, ``claims``                           what a server says about its load, and lies about it
``handler``, ``call``, ``sending``                answer one request; ``messages`` and ``multipart`` are its values
``openai``, ``openai_tasks``, ``responses``       OpenAI's API
``anthropic``, ``ollama``, ``native``             the other APIs
``replies``, ``blocks``, ``engine``               the blocks of answers, and their speed
``memory``, ``prompt_cache``                      the models in memory, and the prompts in the cache
``faults``, ``fault_playback``, ``control``       the faults, how they are played, how another process sets them
``refusals``, ``errors``                          errors, as each kind of server reports them
``strictness``                                    what only the cloud APIs refuse
``stored``, ``object_store``                      stored responses, conversations, files and batches
``recording``                                     the received requests
================================================  ==========================================================
"""

from nexus.simulator.blocks import CallTool, Say, Think
from nexus.simulator.demo import demo_fleet
from nexus.simulator.faults import (
    BadHeaders,
    CommentsOnly,
    Cut,
    Decline,
    Drip,
    ErrorEvent,
    ErrorInSuccess,
    Fault,
    Garbage,
    HangUp,
    Heartbeats,
    HtmlPage,
    HugeEvent,
    IgnoreStream,
    InformationalFlood,
    Mislabel,
    Redirect,
    Refuse,
    Reset,
    Stall,
    Status,
    Unfinished,
    Verbatim,
    WrongLength,
)
from nexus.simulator.recording import Record
from nexus.simulator.server import Simulator
from nexus.simulator.settings import Settings, SimulatedModel
from nexus.simulator.threads import in_thread

__all__ = [
    "BadHeaders",
    "CallTool",
    "CommentsOnly",
    "Cut",
    "Decline",
    "Drip",
    "ErrorEvent",
    "ErrorInSuccess",
    "Fault",
    "Garbage",
    "HangUp",
    "Heartbeats",
    "HtmlPage",
    "HugeEvent",
    "IgnoreStream",
    "InformationalFlood",
    "Mislabel",
    "Record",
    "Redirect",
    "Refuse",
    "Reset",
    "Say",
    "Settings",
    "SimulatedModel",
    "Simulator",
    "Stall",
    "Status",
    "Think",
    "Unfinished",
    "Verbatim",
    "WrongLength",
    "demo_fleet",
    "in_thread",
]
