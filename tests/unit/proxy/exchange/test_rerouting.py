"""When a request that moved away from a silent backend counts as a failure of that backend."""

from types import SimpleNamespace

import pytest

from nexus.domain.model_load import ModelLoad
from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.error_codes import UpstreamFault
from nexus.proxy.exchange.attempt import Attempt
from nexus.proxy.exchange.rerouting import is_undecided
from nexus.testing.builders import make_backend

MOVED_AT = 1000.0
SILENT_S = 3.0


class FakeInquiry:
    """One request whose fleet notes what is reported of backends."""

    def __init__(self):
        self.moved = None
        self.reported = []
        self.plane = SimpleNamespace(fleet=self)

    def report(self, backend_id, outcome, *, retry_after_s):
        self.reported.append((outcome.backend, outcome.fault))


def ended(attempt, ending=Ending.FINISHED, **fields):
    backend = attempt.backend
    attempt.outcome = AttemptOutcome(
        backend=backend.name, backend_id=backend.id, model="llama3", ending=ending, **fields
    )
    return attempt, attempt.outcome


@pytest.fixture
async def make_attempt(make_reserved, make_upstream):
    def make(name):
        backend = make_backend(name)
        started_at = MOVED_AT - SILENT_S
        return Attempt(make_reserved(backend), make_upstream(backend), started_at, figures=ModelLoad())

    return make


@pytest.fixture
def failover():
    return FakeInquiry()


def move(failover, attempt, *, wants_stream=False):
    fields = {"fault": UpstreamFault.SILENT, "duration_s": SILENT_S, "silent_s": SILENT_S, "wants_stream": wants_stream}
    return is_undecided(failover, *ended(attempt, Ending.BACKEND_FAILED, **fields))


async def test_a_stream_that_moved_is_a_failure_at_once(failover, make_attempt):
    assert not move(failover, make_attempt("hung"), wants_stream=True)


async def test_a_whole_answer_that_another_backend_gives_sooner_was_not_coming(failover, make_attempt):
    is_left_open = move(failover, make_attempt("hung"))
    before = list(failover.reported)
    is_undecided(failover, *ended(make_attempt("well"), status=200, duration_s=0.5))

    assert is_left_open
    assert (before, failover.reported) == ([], [("hung", "silent")])


@pytest.mark.parametrize(
    ("ending", "status", "duration_s"),
    [(Ending.FINISHED, 200, 10.0), (Ending.FINISHED, 500, 0.5), (Ending.CLIENT_LEFT, None, 0.5)],
    ids=["it takes the next one as long", "the next one fails", "the client leaves"],
)
async def test_a_whole_answer_may_only_be_a_long_one(failover, make_attempt, ending, status, duration_s):
    move(failover, make_attempt("slow"))
    is_undecided(failover, *ended(make_attempt("next"), ending, status=status, duration_s=duration_s))

    assert failover.reported == []


async def test_a_backend_that_answers_others_meanwhile_has_not_failed(failover, make_attempt):
    slow = make_attempt("slow")
    move(failover, slow)
    slow.figures.alive_at = MOVED_AT + 0.1
    is_undecided(failover, *ended(make_attempt("next"), status=200, duration_s=0.5))

    assert failover.reported == []
