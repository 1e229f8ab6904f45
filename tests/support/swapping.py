"""A server with room for one model, on a virtual clock, behind the stage that holds requests back."""

import heapq
from collections.abc import Callable, Iterator
from itertools import count
from random import Random

from nexus.domain.engine_report import EngineReport
from nexus.domain.residency import end_load
from nexus.routing.core_stages.residency import Residency
from nexus.routing.stage.api import Hold, Refusal
from nexus.testing.builders import make_attempt, make_backend, make_intent


class Asked:
    """One request and the times of its life, in virtual seconds."""

    def __init__(self, model: str, service_s: float, at: float) -> None:
        self.model = model
        self.service_s = service_s
        self.arrived = at
        self.sent: float | None = None
        self.begun: float | None = None
        self.ended: float | None = None
        self.hold: Hold | None = None
        self.retry_at = 0.0


class SwappingWorld:
    """Clients, the stage, and a server like Ollama with ``OLLAMA_MAX_LOADED_MODELS=1``.

    The server answers requests for the model in memory at once; one for another model waits there until none is in
    use, and is then loaded.
    """

    def __init__(
        self,
        *,
        load_s: float,
        holds_back: bool,
        reports: bool = True,
        reports_every_s: float = 0.0,
        max_loaded_models: int | None = 1,
        fails: Iterator[bool] | None = None,
    ):
        """:param holds_back: whether the stage decides; without it, requests are served in the order of their arrival.
        :param reports_every_s: how often the server is asked for a report; 0: before each decision.
        :param max_loaded_models: what Nexus is told of the room; None: it is left to find out.
        :param fails: for each load, whether it fails, so that its requests end in errors.
        """
        self.now = 1000.0
        self.load_s = load_s
        self.reports = reports
        self.reports_every_s = reports_every_s
        self.holds_back = holds_back
        self.stage = Residency(lambda: self.now)
        self.backend = make_backend("mac", kind="ollama", models=("a", "b", "c"), max_loaded_models=max_loaded_models)
        self._intents = {model: make_intent(backends=[self.backend], model=model) for model in self.backend.models}
        self.loads = 0
        self.asked: list[Asked] = []
        self.waiting: list[Asked] = []
        self.on_end: Callable[[Asked], None] = lambda _: None
        self._chance = Random(1)
        self._fails = fails or iter(())
        self._resident: str | None = None
        self._loading: str | None = None
        self._pending: list[Asked] = []
        self._busy = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        if reports and reports_every_s:
            self.at(self.now, self._report_again)

    def at(self, when: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), do))

    def ask(self, model: str, service_s: float) -> None:
        """Let a client send a request now."""
        request = Asked(model, service_s, self.now)
        self.asked.append(request)
        self.waiting.append(request)
        self._try_all()

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, do = heapq.heappop(self._events)
            do()

    # Nexus

    def _try_all(self) -> None:
        """Let every request that waits try, as the queue does when something has changed."""
        is_changed = True
        while is_changed:
            is_changed = False
            for request in tuple(self.waiting):
                is_changed = self._try(request) or is_changed

    def _try(self, request: Asked) -> bool:
        backend, figures = self.backend, self.backend.load.model(request.model)
        if self.reports and not self.reports_every_s:
            self._report()
        backend.load.acquire()
        figures.in_flight += 1
        if self.holds_back:
            held = self.stage.reserve(self._intents[request.model], backend)
            if isinstance(held, Refusal):
                backend.load.release()
                figures.in_flight -= 1
                assert held.is_saturation
                assert held.retry_in_s is not None
                if request.retry_at <= self.now or self.now + held.retry_in_s < request.retry_at:
                    request.retry_at = self.now + held.retry_in_s
                    self.at(request.retry_at, lambda: self._retry(request))
                return False
            request.hold = held
        self.waiting.remove(request)
        request.sent = self.now
        figures.first_token.waiting[request] = self.now
        self._pending.append(request)
        self._serve()
        return True

    def _retry(self, request: Asked) -> None:
        if request in self.waiting and self.now >= request.retry_at:
            self._try_all()

    def _report_again(self) -> None:
        self._report()
        # Nexus shortens each interval at random, too.
        self.at(self.now + self.reports_every_s * self._chance.uniform(0.9, 1.0), self._report_again)

    # the server

    def _report(self) -> None:
        # A model is listed as soon as its load begins.
        there = self._resident or self._loading
        loaded = frozenset() if there is None else frozenset({there})
        due_at = self.now + (self.reports_every_s or 2)
        self.backend.load.tell(EngineReport(at=self.now, due_at=due_at, loaded=loaded))

    def _serve(self) -> None:
        for request in tuple(self._pending):
            if request not in self._pending:
                # It was served with one that has ended meanwhile.
                continue
            if request.model == self._resident and self._loading is None:
                self._pending.remove(request)
                self._begin(request)
            elif not self.holds_back:
                break
        if self._pending and self._loading is None and not self._busy:
            self._loading, self._resident = self._pending[0].model, None
            self.loads += 1
            self.at(self.now + self.load_s, self._loaded)

    def _loaded(self) -> None:
        model, self._loading = self._loading, None
        if next(self._fails, False):
            for request in [each for each in self._pending if each.model == model]:
                self._pending.remove(request)
                self._finish(request, is_good=False)
            self._serve()
            return
        self._resident = model
        self._serve()

    def _begin(self, request: Asked) -> None:
        self._busy += 1
        request.begun = self.now
        self.backend.load.model(request.model).first_token.waiting.pop(request)
        load = self.backend.load.memory.under_way.get(request.model)
        if load is not None:
            end_load(self.backend, load, self.now)
            self._try_all()
        self.backend.load.model(request.model).progressed_at = self.now
        self.at(self.now + request.service_s, lambda: self._end(request))

    def _end(self, request: Asked) -> None:
        self._busy -= 1
        request.ended = self.now
        self._finish(request, is_good=True)
        self._serve()

    def _finish(self, request: Asked, *, is_good: bool) -> None:
        figures = self.backend.load.model(request.model)
        self.backend.load.release()
        figures.in_flight -= 1
        figures.used_at = self.now
        figures.first_token.waiting.pop(request, None)
        if is_good:
            figures.progressed_at = self.now
        if request.hold is not None:
            status = 200 if is_good else 500
            request.hold.settle(make_attempt("mac", model=request.model, duration_s=request.service_s, status=status))
        self._try_all()
        self.on_end(request)
