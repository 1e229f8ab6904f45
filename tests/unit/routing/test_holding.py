"""What stages hold for an attempt: who listens to its answer, why one refuses, and whether it only observes."""

from structlog.testing import capture_logs

from nexus.routing.decision import Reject
from nexus.routing.stage.api import Hold, Reconciler, Refusal
from nexus.testing.builders import make_backend, make_fleet


class Listening(Hold):
    def __init__(self, tell):
        self._tell = tell

    def settle(self, outcome):
        pass

    def listener(self):
        return self._tell


class Holding(Reconciler):
    priority = 300

    def __init__(self, name, held):
        self.name = name
        self._held = held

    def reconcile(self, intent):
        pass

    def reserve(self, intent, backend):
        return self._held


def reserved(make_router, routing, *held):
    router = make_router(*(Holding(f"stage-{number}", one) for number, one in enumerate(held)))
    return routing(router).next(make_fleet(make_backend()))


def test_nobody_listens_unless_a_stage_does(router, routing):
    found = reserved(router, routing)

    assert [hold.listener() for hold in found.holds] == [None]


def test_every_stage_that_listens_is_told(router, routing):
    first, second = [], []
    found = reserved(router, routing, Listening(first.append), Listening(None), Listening(second.append))

    found.holds[0].listener()("Hi")

    assert (first, second) == (["Hi"], ["Hi"])


def test_a_stage_that_fails_at_listening_hears_no_more_and_disturbs_nobody(router, routing):
    told = []
    found = reserved(router, routing, Listening(lambda text: told.append(text) or text.broken))

    with capture_logs() as logs:
        tell = found.holds[0].listener()
        tell("Hi")
        tell("there")

    assert told == ["Hi"]
    assert [line["event"] for line in logs] == ["hold_without_text"]


def test_a_refusal_says_what_would_help(router, routing):
    refusal = Refusal("it costs too much", action="wait for May", context={"limit_usd": 1.0})

    found = reserved(router, routing, refusal)

    assert isinstance(found, Reject)
    assert [(v.reason, v.action) for v in found.reasons] == [("it costs too much", "wait for May")]
    assert found.context["limit_usd"] == 1.0


def test_a_stage_knows_whether_it_only_observes(router):
    acting, observing = Holding("acting", None), Holding("observing", None)

    router(acting, observing, observe=("observing",))

    assert (acting.is_observed, observing.is_observed) == (False, True)
