"""Each exception by which a fleet refuses a change arrives in another process as what it was."""

import msgspec
import pytest

from nexus.config.faults import Fault
from nexus.errors import NexusError, StoreError, StoreOutcomeUnknown
from nexus.fleet.added import BackendRefused
from nexus.fleet.discovery.approval.applicants import AnotherServer, NotRecognised
from nexus.fleet.membership.registry import BackendNotFound
from nexus.fleet.sharing.messages import Refused
from nexus.fleet.sharing.refusals import received, to_send


def sent(exc):
    return received(msgspec.msgpack.decode(msgspec.msgpack.encode(to_send(exc)), type=Refused))


def made(kind, text):
    """Return an exception whose constructor takes something else than its text."""
    exc = kind.__new__(kind)
    exc.args = (text,)
    return exc


@pytest.mark.parametrize(
    "exc",
    [
        BackendNotFound("gpu"),
        made(AnotherServer, "'gpu' is elsewhere now"),
        made(NotRecognised, "'gpu' is not recognised"),
        StoreError("the disk is full"),
        NexusError("something else"),
    ],
)
def test_class_and_text_are_the_same(exc):
    assert (type(sent(exc)), str(sent(exc))) == (type(exc), str(exc))


def test_a_more_special_error_arrives_as_the_one_that_callers_know():
    assert type(sent(StoreOutcomeUnknown("no answer"))) is StoreError


def test_a_fault_keeps_its_key_and_its_hint():
    fault = sent(Fault(("models", 0, "zone"), "unknown zone", "use open"))

    assert (fault.path, fault.problem, fault.hint) == (("models", 0, "zone"), "unknown zone", "use open")


def test_a_refused_backend_keeps_its_key():
    refused = sent(BackendRefused("the name is taken", key="name"))

    assert (type(refused), str(refused), refused.key) == (BackendRefused, "the name is taken", "name")
