"""Carries the exceptions by which a fleet refuses a change to another process."""

from typing import Final

from nexus.config.faults import Fault
from nexus.errors import NexusError, StoreError
from nexus.fleet.added import BackendRefused
from nexus.fleet.discovery.approval.applicants import AnotherServer, NotRecognised
from nexus.fleet.membership.registry import BackendNotFound
from nexus.fleet.sharing.messages import Refused

REFUSALS: Final = (Fault, NexusError)
"""What may be carried; any other exception is a defect."""
_WITH_TEXT: Final[dict[str, type[NexusError]]] = {
    each.__name__: each for each in (AnotherServer, BackendNotFound, NotRecognised, StoreError)
}


def to_send(exc: Exception) -> Refused:
    """Return *exc*, one of :data:`REFUSALS`, as a message."""
    if isinstance(exc, Fault):
        return Refused("Fault", exc.problem, path=tuple(exc.path), hint=exc.hint)
    name = next((each.__name__ for each in type(exc).__mro__ if each.__name__ in _WITH_TEXT), "NexusError")
    if isinstance(exc, BackendRefused):
        return Refused("BackendRefused", str(exc), key=exc.key)
    return Refused(name, str(exc))


def received(refused: Refused) -> Exception:
    """Return the exception that was sent."""
    match refused.error:
        case "Fault":
            return Fault(refused.path, refused.text, refused.hint)
        case "BackendRefused":
            return BackendRefused(refused.text, key=refused.key)
    kind = _WITH_TEXT.get(refused.error, NexusError)
    # Their constructors make the text from other values, which only the sender has.
    exc = kind.__new__(kind)
    exc.args = (refused.text,)
    return exc
