"""The simulated GPU: slots, a queue, models in memory, a time to first token, a token rate, and counters."""

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from nexus.simulator.claims import Claims
from nexus.simulator.memory import ModelMemory
from nexus.simulator.prompt_cache import PromptCache
from nexus.simulator.refusals import Refusal
from nexus.simulator.settings import Settings, SimulatedModel


class Engine:
    """Limits how many requests generate at once, and at which speed."""

    def __init__(self, settings: Settings) -> None:
        self.running = 0
        self.waiting = 0
        self.succeeded = 0
        self.prompt_tokens = 0
        self.generated_tokens = 0
        self.memory = ModelMemory(settings)
        self.claims = Claims()
        self.cache = PromptCache(settings.cache_tokens)
        self.reading = asyncio.Lock()
        """Held while a prompt is read."""
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.concurrency)

    def begin(self) -> None:
        """Begin the run of a new process, whose counters are zero."""
        self.succeeded = self.prompt_tokens = self.generated_tokens = 0
        self.claims.begin()
        self.cache.clear()

    def admit(self) -> "Turn":
        """Take a place in the queue. :raises Refusal: when the queue is full."""
        settings = self._settings
        if self.running + self.waiting >= settings.concurrency + settings.queue_size:
            raise Refusal("overloaded")
        return Turn(self, self._slots, settings)


class Turn:
    """The place of one request in the queue and then in a slot; a context manager that releases it."""

    def __init__(self, engine: Engine, slots: asyncio.Semaphore, settings: Settings) -> None:
        self._engine = engine
        self._slots = slots
        self._settings = settings
        self._is_running = False
        self._model: SimulatedModel | None = None
        self._is_using = False
        self.load_s = 0.0
        """How long it waited for its model to be in memory."""

    def ask(self, model: SimulatedModel) -> None:
        """Note the model that the request is for."""
        self._model = model

    def __enter__(self) -> Self:
        self._engine.waiting += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_using and self._model is not None:
            self._engine.memory.leave(self._model)
        if self._is_running:
            self._engine.running -= 1
            self._slots.release()
        else:
            self._engine.waiting -= 1

    async def start(self) -> None:
        """Wait until the model is in memory and a slot is free, unless this turn has one.

        :raises Refusal: the model could not be loaded.
        """
        if self._is_running:
            return
        if self._model is not None and not self._is_using:
            self.load_s = await self._engine.memory.use(self._model)
            self._is_using = True
        await self._slots.acquire()
        self._is_running = True
        self._engine.waiting -= 1
        self._engine.running += 1

    async def generate(self, tokens: tuple[str, ...], prompt_tokens: int, cached_tokens: int = 0) -> AsyncIterator[str]:
        """Yield *tokens* at the engine's pace, once the prompt is read."""
        await self.start()
        self._engine.prompt_tokens += prompt_tokens
        if self._settings.prefill_tokens_per_s:
            async with self._engine.reading:
                await asyncio.sleep((prompt_tokens - cached_tokens) / self._settings.prefill_tokens_per_s)
        loop = asyncio.get_running_loop()
        began = loop.time()
        gap_s = 1 / self._settings.tokens_per_s if self._settings.tokens_per_s else 0.0
        for position, token in enumerate(tokens):
            due = began + self._settings.ttft_s + position * gap_s
            await asyncio.sleep(max(0.0, due - loop.time()))
            self._engine.generated_tokens += 1
            yield token
        self._engine.succeeded += 1

    async def compute(self, prompt_tokens: int) -> None:
        """Take the time of an answer without tokens, such as an embedding."""
        await self.start()
        self._engine.prompt_tokens += prompt_tokens
        await asyncio.sleep(self._settings.ttft_s)
        self._engine.succeeded += 1
