"""The simulated memory of a server: which models are in it, and the time that loading another one takes."""

import asyncio

from nexus.simulator.refusals import Refusal
from nexus.simulator.settings import Settings, SimulatedModel


class ModelMemory:
    """Loads models one at a time, as Ollama does, and evicts an idle one where there is no room.

    A model in use is never evicted: the load waits until one is idle. Meanwhile, requests for models in memory go on.
    """

    def __init__(self, settings: Settings) -> None:
        self.loads = 0
        """How many models were loaded since the start."""
        self.failures_left = 0
        """How many of the next loads fail, after the time that they take."""
        self.loading: str | None = None
        """The model that is being loaded."""
        self._settings = settings
        self._loaded: dict[str, float] = {}
        """When each model in memory was last used, by the clock of the loop; the least recently used one comes
        first."""
        self._uses: dict[str, int] = {}
        self._load_s: dict[str, float] = {}
        self._turn = asyncio.Lock()
        self._is_idle = asyncio.Event()
        self.begin(settings)

    def begin(self, settings: Settings) -> None:
        """Serve the models of *settings*; those that take no time to load are in memory, as far as there is room."""
        self._settings = settings
        in_memory = [model.name for model in settings.catalogue if not settings.load_time_s(model)]
        self._loaded = dict.fromkeys(in_memory[: settings.max_loaded or None], 0.0)

    def start(self) -> None:
        """Begin to load the one model of a llama.cpp, which answers nothing until it has done so."""
        if self.is_starting:
            model = self._settings.catalogue[0]
            self.loads += 1
            loop = asyncio.get_running_loop()
            loop.call_later(self._settings.load_time_s(model), self._loaded.setdefault, model.name, loop.time())

    @property
    def is_starting(self) -> bool:
        """Whether it is a llama.cpp that was started for one model, and is loading it."""
        settings = self._settings
        is_router = any(model.status for model in settings.catalogue)
        return settings.kind == "llamacpp" and not is_router and not self._loaded

    @property
    def loaded(self) -> tuple[str, ...]:
        """The names of the models in memory."""
        self._drop_expired()
        return tuple(self._loaded)

    def took_s(self, name: str) -> float:
        """Return how long the last load of the model took; 0 when it has never been loaded."""
        return self._load_s.get(name, 0.0)

    async def use(self, model: SimulatedModel) -> float:
        """Wait until *model* is in memory, keep it there until :meth:`leave`, and return the seconds that this took.

        :raises Refusal: the load failed.
        """
        name, loop = model.name, asyncio.get_running_loop()
        self._drop_expired()
        waited_s = 0.0
        if name not in self._loaded:
            began = loop.time()
            async with self._turn:
                if name not in self._loaded:
                    await self._load(model)
            waited_s = loop.time() - began
        self._uses[name] = self._uses.get(name, 0) + 1
        return waited_s

    def leave(self, model: SimulatedModel) -> None:
        """Note that a request does not use *model* any more."""
        name = model.name
        self._uses[name] -= 1
        if name in self._loaded:
            del self._loaded[name]
            self._loaded[name] = asyncio.get_running_loop().time()
        if not self._uses[name]:
            self._is_idle.set()

    def unload(self, name: str) -> None:
        """Remove the model from memory."""
        self._loaded.pop(name, None)

    async def _load(self, model: SimulatedModel) -> None:
        await self._make_room()
        self.loads += 1
        self.loading = model.name
        load_s = self._settings.load_time_s(model)
        try:
            await asyncio.sleep(load_s)
        finally:
            self.loading = None
        if self.failures_left:
            self.failures_left -= 1
            raise Refusal("load_failed", model=model.name)
        self._load_s[model.name] = load_s
        self._loaded[model.name] = asyncio.get_running_loop().time()

    async def _make_room(self) -> None:
        limit = self._settings.max_loaded
        while limit and len(self._loaded) >= limit:
            idle = next((name for name in self._loaded if not self._uses.get(name)), None)
            if idle is not None:
                del self._loaded[idle]
            else:
                self._is_idle.clear()
                await self._is_idle.wait()

    def _drop_expired(self) -> None:
        """Evict the models that have been idle for longer than they are kept."""
        keep_s = self._settings.keep_loaded_s
        if keep_s is None:
            return
        now = asyncio.get_running_loop().time()
        for name, used_at in tuple(self._loaded.items()):
            if not self._uses.get(name) and now - used_at >= keep_s:
                del self._loaded[name]
