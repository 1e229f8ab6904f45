"""Control endpoints with which another process sets faults and reads the received requests."""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from nexus.simulator.faults import AnyFault, FaultSwitch, Refuse
from nexus.simulator.messages import Answer, Request, json_answer
from nexus.simulator.recording import Recorder

PREFIX: Final = "/_simulator/"
Wanted = AnyFault | list[AnyFault]


class Control:
    """Answers ``/_simulator/fault`` and ``/_simulator/requests``."""

    def __init__(self, faults: FaultSwitch, recorder: Recorder) -> None:
        self._faults = faults
        self._recorder = recorder
        self._endpoints: Mapping[tuple[str, str], Callable[[Request], Answer]] = {
            ("GET", f"{PREFIX}fault"): self._show_faults,
            ("PUT", f"{PREFIX}fault"): self._set_faults,
            ("DELETE", f"{PREFIX}fault"): self._clear_faults,
            ("GET", f"{PREFIX}requests"): self._show_requests,
            ("DELETE", f"{PREFIX}requests"): self._forget_requests,
        }

    def answer(self, request: Request) -> Answer:
        endpoint = self._endpoints.get((request.method, request.path))
        if endpoint is None:
            return json_answer({"error": "try GET, PUT or DELETE /_simulator/fault"}, 404)
        return endpoint(request)

    def _show_faults(self, request: Request) -> Answer:
        del request
        return json_answer({"faults": self._faults.current})

    def _set_faults(self, request: Request) -> Answer:
        try:
            wanted = msgspec.json.decode(request.body, type=Wanted)
        except msgspec.DecodeError as exc:
            return json_answer({"error": str(exc)}, 400)
        faults = wanted if isinstance(wanted, list) else [wanted]
        if any(isinstance(fault, Refuse) and fault.for_s is None for fault in faults):
            return json_answer(
                {"error": "for_s is required: a server that refuses connections cannot be reached to clear the fault"},
                400,
            )
        self._faults.set(*faults)
        return self._show_faults(request)

    def _clear_faults(self, request: Request) -> Answer:
        self._faults.clear()
        return self._show_faults(request)

    def _show_requests(self, request: Request) -> Answer:
        del request
        return json_answer({"active": self._recorder.active, "requests": tuple(self._recorder.requests)})

    def _forget_requests(self, request: Request) -> Answer:
        self._recorder.clear()
        return self._show_requests(request)
