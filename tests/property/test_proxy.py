"""However bytes are cut, requests interleave and headers are spelt: what the data path promises, holds."""

import asyncio
from itertools import pairwise

from aiohttp.http import HttpVersion11, RawRequestMessage
from hypothesis import example, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from nexus.dialing.upstream_settings import UpstreamSettings
from nexus.domain.kinds import BackendKind
from nexus.error_codes import UpstreamFault
from nexus.errors import RequestError, UpstreamError
from nexus.fleet.kinds import KINDS
from nexus.proxy.client.key_filter import KeyFilter
from nexus.proxy.exchange.retry import Next, Retries, RetryBudget
from nexus.proxy.headers.from_client import HeadMemory, read_head
from nexus.proxy.headers.rules import NOT_FOR_CLIENTS, NOT_FOR_CLIENTS_PREFIXES
from nexus.proxy.headers.to_backend import head_template, request_head
from nexus.proxy.headers.to_client import passed_lines, retry_after_s
from nexus.proxy.upstream.connection import UpstreamConnection
from nexus.proxy.waiting.claim import Claim, Given, Unmet
from nexus.proxy.waiting.request_queue import RequestQueue
from nexus.proxy.write_batch import MAX_BATCHED_BYTES, BatchedWriter, WriteBatch
from nexus.tasks import start
from nexus.testing.builders import make_backend
from tests.support.fakes import FakeSink, FakeTransport

modestly = settings(max_examples=60)
thoroughly = settings(max_examples=200)

# answers of a backend


def receive(connection, wire, cuts):
    """Let *wire* arrive in pieces."""
    edges = [0, *sorted(cut % (len(wire) + 1) for cut in cuts), len(wire)]
    for begin, end in pairwise(edges):
        if begin < end and not connection.is_closed:
            connection.data_received(wire[begin:end])


def heard(wire, cuts):
    """Return what is told of an answer that arrives in pieces and whose connection is then closed."""
    connection, sink = UpstreamConnection(), FakeSink()
    connection.connection_made(FakeTransport())
    connection.send(b"POST", b"", sink)
    receive(connection, wire, cuts)
    is_reusable = connection.is_reusable
    connection.connection_lost(None)
    return *recorded(sink), is_reusable


def recorded(sink):
    head = (sink.status, sink.headers) if "head" in sink.calls else None
    return head, sink.body, sink.end


tokens = st.text("abcdefgh-XYZ", min_size=1, max_size=8).map(str.encode)
values = st.text("abc 123;=/\xe9", max_size=20).map(lambda text: text.strip().encode("latin-1"))
headers = st.lists(st.tuples(tokens, values), max_size=5)
cuts = st.lists(st.integers(0, 10_000), max_size=12)


@st.composite
def answers(draw):
    """Draw an answer, its framing, and what may be behind it or missing."""
    body = draw(st.binary(max_size=200))
    lines = b"".join(b"X-%b: %b\r\n" % pair for pair in draw(headers))
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * draw(st.integers(0, 3))
    framing = draw(st.sampled_from(["length", "chunked", "eof", "close"]))
    if framing == "chunked":
        edges = [0, *sorted(draw(st.sets(st.integers(1, max(1, len(body) - 1)), max_size=5))), len(body)]
        chunks = [body[a:b] for a, b in pairwise(edges) if a < b]
        wire_body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
        lines += b"Transfer-Encoding: chunked\r\n"
    else:
        wire_body = body
        lines += b"" if framing == "eof" else b"Content-Length: %d\r\n" % len(body)
        lines += b"Connection: close\r\n" if framing == "close" else b""
    whole = b"%bHTTP/1.1 200 OK\r\n%b\r\n%b" % (interim, lines, wire_body)
    return whole[: len(whole) - draw(st.integers(0, 5))] + draw(st.sampled_from([b"", b"", b"HTTP/1.1 200 OK\r\n"]))


@thoroughly
@given(wire=answers(), cuts=cuts)
def test_an_answer_does_not_depend_on_how_its_bytes_are_cut(wire, cuts):
    assert heard(wire, cuts) == heard(wire, [])


HEADS = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length:  %d\r\nX-Like: Content-Length: 7\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX-Like: content-length: 7\r\nContent-Length: %d\r\nX-Request-Id: a\r\n\r\n",
    b"HTTP/1.1 503 Not Now\r\nContent-Length: %d\r\nRetry-After: 5\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n",
)
following = st.lists(
    st.tuples(
        # Mostly the same head again and again, as of one server.
        st.one_of(st.just(HEADS[0]), st.just(HEADS[0]), st.sampled_from(HEADS)),
        st.one_of(
            st.just(b""),
            st.just(b'{"a": 1}'),
            st.just(b"a\r\n\r\nb"),
            st.just(HEADS[0] % 1 + b"a"),
            st.binary(max_size=40).filter(bytes.isalnum),
        ),
        st.sampled_from([0, 0, 0, 0, 5]),
        st.sampled_from([b"", b"", b"", b"surplus"]),
        cuts | st.just([]),
    ),
    max_size=8,
)


def without_length(head, *others):
    return head and (head[0], [header for header in head[1] if header[0].lower() != b"content-length"]), *others


@thoroughly
@given(following)
def test_what_an_answer_says_does_not_depend_on_those_before_it_on_its_connection(following):
    connection = UpstreamConnection()
    connection.connection_made(FakeTransport())
    for head, body, missing, surplus, cuts in following:
        wire, sink = head % (len(body) + missing) + body + surplus, FakeSink()
        connection.send(b"POST", b"", sink)
        receive(connection, wire, cuts)
        is_reusable = connection.is_reusable
        if is_reusable:
            connection.rest(0.0)
        else:
            connection.connection_lost(None)

        if connection.is_reused and surplus and sink.end == UpstreamFault.PROTOCOL.value:
            # Which of two answers belongs to the request, nothing tells: neither is handed over.
            assert (sink.calls, sink.body, is_reusable) == (["failed"], b"", False)
            break
        # Another connection has learned nothing from an answer before.
        assert without_length(*recorded(sink), is_reusable) == without_length(*heard(wire, []))
        if not is_reusable:
            break


@thoroughly
@given(
    wire=st.binary(max_size=100)
    | st.lists(
        st.sampled_from(
            [
                b"HTTP/1.1 200 OK\r\n",
                b"HTTP/1.1 050 X\r\n",
                b"HTTP/1.1 100 X\r\n",
                b"Content-Length: 3\r\n",
                b"Transfer-Encoding: chunked\r\n",
                b"Connection: close\r\n",
                b"\r\n",
                b"3\r\n",
                b"abc",
                b"0\r\n",
            ]
        ),
        max_size=12,
    ).map(b"".join),
    cuts=cuts,
)
def test_any_bytes_at_all_have_one_end(wire, cuts):
    head, body, end, is_reusable = heard(wire, cuts)

    assert end in ("framed", "unframed", *(fault.value for fault in UpstreamFault))
    assert head is not None or not body
    assert not is_reusable or end == "framed"


# what is written in one turn


WRITERS = 4
acts = st.lists(
    st.tuples(
        st.sampled_from(["write", "write", "write", "write_now", "expect", "expect", "turn", "close", "abort"]),
        st.integers(0, WRITERS - 1),
        st.sampled_from([b"a", b"bc", b"d" * (MAX_BATCHED_BYTES + 1)]),
    ),
    max_size=60,
)


class Writer:
    """One connection, what was meant to go out on it, and whether it was cut."""

    def __init__(self, batch):
        self.transport = FakeTransport()
        self.batched = BatchedWriter(self.transport, batch)
        self.meant = b""
        self.is_cut = False

    def act(self, act, data):
        if act == "abort":
            self.is_cut = self.is_cut or not self.transport.is_closed
        if act in ("close", "abort"):
            getattr(self.batched, act)()
            return
        if not self.transport.is_closed:
            self.meant += data
        getattr(self.batched, act)(data)


async def written_by(acts):
    """Return the writers after *acts*, two turns later."""
    batch = WriteBatch(asyncio.get_running_loop())
    writers = [Writer(batch) for _ in range(WRITERS)]
    for act, number, data in [*acts, ("turn", 0, b""), ("turn", 0, b"")]:
        if act == "turn":
            await asyncio.sleep(0)
        elif act == "expect":
            batch.expect()
        else:
            writers[number].act(act, data)
    return writers


@thoroughly
@given(acts)
def test_what_is_written_leaves_in_its_order_and_within_two_turns(acts):
    for writer in asyncio.run(written_by(acts)):
        assert writer.batched.unsent == 0
        assert writer.meant.startswith(writer.transport.written)
        assert writer.is_cut or writer.transport.written == writer.meant


# the waiting line

BACKENDS = ("gpu", "cpu")
steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("wait"),
            st.frozensets(st.sampled_from(BACKENDS), min_size=1),
            st.builds(
                Claim,
                client=st.sampled_from("abc"),
                rank=st.integers(0, 2),
                tokens=st.integers(0, 1000),
                kind=st.integers(0, 1),
            ),
            st.booleans(),
        ),
        st.tuples(st.just("cancel"), st.integers(0, 20)),
        st.tuples(st.just("release"), st.integers(0, 20)),
        st.tuples(st.just("change")),
        st.tuples(st.just("turn"), st.integers(1, 3)),
    ),
    max_size=40,
)


class House:
    """Slots that are taken, handed over and given back; it notices when one is lost, or is two people's."""

    def __init__(self, slots):
        self.line = RequestQueue(max_size=5, max_wait_s=60.0)
        self.free = dict.fromkeys(BACKENDS, slots)
        self.held = []
        self.waiting = []

    async def stay(self, backends, claim, *, is_late):
        """Take a slot or wait for one, and hold it until it is released."""
        found = self.take(backends)
        if isinstance(found, Given):
            slot = found.thing
        else:
            try:
                slot = await self.line.wait(
                    claim,
                    found,
                    lambda: self.take(backends),
                    give_back=self.give_back,
                    left_s=0.0 if is_late else 60.0,
                )
            except RequestError as exc:
                assert exc.code in ("queue_full", "deadline_exceeded")  # noqa: PT017 - both are fine, others are not
                return
        self.held.append(slot)

    def take(self, backends):
        for backend in sorted(backends):
            if self.free[backend]:
                self.free[backend] -= 1
                return Given(backend, backend, has_room=self.free[backend] > 0)
        return Unmet(backends)

    def give_back(self, backend):
        self.free[backend] += 1
        self.line.slot_freed(backend)

    def do(self, step):
        match step:
            case ("wait", backends, claim, is_late):
                self.waiting.append(start(self.stay(backends, claim, is_late=is_late), name="stay"))
            case ("cancel", number) if self.waiting:
                self.waiting[number % len(self.waiting)].cancel()
            case ("release", number) if self.held:
                self.give_back(self.held.pop(number % len(self.held)))
            case ("change",):
                self.line.fleet_changed()


@thoroughly
@given(slots=st.integers(0, 2), steps=steps)
def test_no_slot_is_lost_or_given_twice(slots, steps):
    async def story():
        house = House(slots)
        for step in steps:
            house.do(step)
            for _ in range(step[1] if step[0] == "turn" else 0):
                await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)

        still_waiting = [task for task in house.waiting if not task.done()]
        assert len(house.line) == len(still_waiting) <= 5
        for backend in BACKENDS:
            assert house.free[backend] + house.held.count(backend) == slots
            assert not house.free[backend] or backend not in house.line.line.places, (
                "a slot is free while a request waits for it"
            )
        for task in still_waiting:
            task.cancel()
        await asyncio.gather(*house.waiting, return_exceptions=True)
        assert len(house.line) == house.line.line.size_bytes == 0
        assert not any((house.line.line.sets, house.line.line.models, house.line._due))

    asyncio.run(story())


# retries


@modestly
@given(
    events=st.lists(st.tuples(st.sampled_from(["earn", "spend"]), st.floats(0, 5)), max_size=300),
    begin=st.floats(0, 1e6),
)
def test_retries_stay_a_share_of_the_traffic(events, begin):
    budget, now_s, earned, spent = RetryBudget(), begin, 0, 0

    for what, later_s in events:
        now_s += later_s
        if what == "earn":
            budget.earn()
            earned += 1
        else:
            spent += budget.spend(now_s)
        assert 0 <= budget._tokens <= RetryBudget.MOST + RetryBudget.SHARE

    refills = 1 + (now_s - begin) / RetryBudget.REFILL_S
    assert spent <= RetryBudget.LEAST * (1 + refills) + RetryBudget.SHARE * earned + 1e-6
    quiet_s = RetryBudget.REFILL_S + 0.001
    assert all(budget.spend(now_s + quiet_s) for _ in range(int(RetryBudget.LEAST)))


@modestly
@given(
    errors=st.lists(st.tuples(st.sampled_from(UpstreamFault), st.sampled_from([None, 400, 401, 429, 500, 503]))),
    max_retries=st.integers(0, 5),
    retry_unsafe=st.booleans(),
)
def test_no_exchange_tries_for_ever(errors, max_retries, retry_unsafe):
    retries = Retries(max_retries=max_retries, budget=RetryBudget())
    backend = make_backend("gpu-1", retry_unsafe=retry_unsafe)

    steps = [
        retries.after(UpstreamError(fault, "", status=status), backend, now_s=1.0, left_s=600.0, wait_s=120.0)
        for fault, status in errors
    ]

    assert steps.count(Next.ANOTHER_BACKEND) <= max_retries
    assert steps.count(Next.SAME_BACKEND_FRESH) <= 1


# headers

FORBIDDEN_UP = [
    *("connection", "keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding"),
    *("upgrade", "cookie", "authorization", "x-api-key", "api-key", "x-nexus-zone", "x-nexus-backend", "x_api_key"),
    *("x-forwarded-for", "x-forwarded-user", "forwarded", "x-real-ip", "accept-encoding", "expect", "x-request_id"),
]
FORBIDDEN_DOWN = [
    *("connection", "keep-alive", "proxy-authenticate", "proxy-connection", "te", "trailer", "transfer-encoding"),
    *("upgrade", "set-cookie", "www-authenticate", "server", "x-powered-by", "alt-svc", "content-length"),
    *("x-nexus-backend", "access-control-allow-origin", "x-accel-redirect", *map(bytes.decode, NOT_FOR_CLIENTS)),
    *(f"{prefix.decode()}any" for prefix in NOT_FOR_CLIENTS_PREFIXES),
]
HARMLESS = ["accept", "user-agent", "x-one", "x-two", "x-three", "anthropic-version", "traceparent", "via", "x_four"]


READ = [
    "accept",
    "content-type",
    "content-length",
    "x-request-id",
    "idempotency-key",
    "x-nexus-privacy",
    "x-nexus-hops",
]
BROWSERS = ["sec-fetch-site", "sec-fetch-mode", "access-control-request-method"]


def spelt(names):
    """Give any of *names* in any letter case."""
    return st.sampled_from(names).flatmap(
        lambda name: st.lists(st.booleans(), min_size=len(name), max_size=len(name)).map(
            lambda ups: "".join(c.upper() if up else c for c, up in zip(name, ups, strict=True))
        )
    )


def carried(forbidden):
    """Give headers, some of which name others as being for this hop alone."""
    named = st.lists(spelt(HARMLESS), max_size=3).map(", ".join)
    return st.lists(
        st.one_of(
            st.tuples(spelt([name for name in forbidden if name != "connection"]), st.just("canary")),
            st.tuples(spelt(HARMLESS), st.just("fine")),
            st.tuples(spelt(["connection"]), named),
        ),
        max_size=8,
    )


def message_of(pairs):
    return RawRequestMessage(
        method="POST",
        path="/v1/chat/completions",
        version=HttpVersion11,
        headers=CIMultiDictProxy(CIMultiDict(pairs)),
        raw_headers=tuple((name.encode(), value.encode()) for name, value in pairs),
        should_close=False,
        compression=None,
        upgrade=False,
        chunked=False,
        url=URL("/"),
    )


def hop_names(pairs):
    """Return what the Connection headers among *pairs* name, in lower case."""
    lists = [value for name, value in pairs if name.lower() == "connection"]
    return {token.strip().lower() for tokens in lists for token in tokens.split(",")}


kinds: st.SearchStrategy[BackendKind] = st.sampled_from(list(KINDS.values()))


@thoroughly
@given(pairs=carried(FORBIDDEN_UP), kind=kinds)
def test_no_request_header_passes_that_must_not(pairs, kind):
    try:
        head = read_head(message_of(pairs))
    except RequestError as exc:
        assert exc.code == "duplicate_header"  # noqa: PT017 - nothing else is wrong with these
        return
    template = head_template(kind, "http://gpu:8000", "gpu:8000", UpstreamSettings(key="our-own"))

    sent = request_head(template, head, b"/x", body_length=0, request_id="req", may_pass_credentials=True)

    lines = [line.partition(b":") for line in sent.split(b"\r\n")[1:-2]]
    names = [name.decode().lower() for name, _, _ in lines]
    ours = {"host", kind.key_header, "x-request-id", "x-nexus-hops", "content-length"}
    assert b"canary" not in sent
    assert not (set(names) - ours) & {*FORBIDDEN_UP, *hop_names(pairs), *kind.dropped_headers}
    assert all(names.count(name) == 1 for name in ours)


OUR_KEY = b"k3y-of-ours"
SHAPES = ["{}", "Bearer {}", "Basic {}", " {} ", "token={}", "a, {}; b", '"{}"', "key: {}", "not-{}"]


@thoroughly
@given(
    shown=st.lists(
        st.tuples(spelt([*HARMLESS, "authorization", "x-api-key", "api-key", "x-request-id"]), st.sampled_from(SHAPES)),
        max_size=6,
        unique_by=lambda pair: pair[0].lower(),
    ),
    kind=kinds,
)
def test_no_key_of_ours_passes_and_nothing_else_is_held_back(shown, kind):
    pairs = [(name, shape.format(OUR_KEY.decode())) for name, shape in shown]
    head = read_head(message_of([*pairs, ("X-Other", "kept")]))
    KeyFilter(lambda key: key == OUR_KEY).withhold(head)
    template = head_template(kind, "http://gpu:8000", "gpu:8000", UpstreamSettings(key=None))

    sent = request_head(template, head, b"/x", body_length=0, request_id="req", may_pass_credentials=True)

    assert OUR_KEY not in sent.replace(b"not-" + OUR_KEY, b"")
    assert b"X-Other: kept\r\n" in sent
    others = {name.lower() for name, shape in shown if shape == "not-{}"} - {"x-request-id", *kind.dropped_headers}
    assert others <= {line.partition(b":")[0].decode().lower() for line in sent.split(b"\r\n")}


@thoroughly
@given(pairs=carried(FORBIDDEN_DOWN))
def test_no_response_header_passes_that_must_not(pairs):
    block = passed_lines([(name.encode(), value.encode()) for name, value in pairs], b"req-1")

    names = {line.partition(b":")[0].decode().lower() for line in block.split(b"\r\n")[:-1]}
    kept = {name.lower() for name, _ in pairs} - {*FORBIDDEN_DOWN, *hop_names(pairs)}
    assert b"canary" not in block
    assert names == kept


@thoroughly
@given(
    requests=st.lists(
        st.lists(
            st.one_of(
                st.tuples(spelt(HARMLESS), st.sampled_from(["1", "2"])),
                st.tuples(spelt(["content-length"]), st.sampled_from(["1", "22"])),
                st.tuples(spelt(["authorization"]), st.sampled_from(["Bearer a", "Bearer b"])),
                st.tuples(spelt(["x-nexus-privacy"]), st.sampled_from(["a", "b"])),
            ),
            max_size=4,
        ),
        max_size=6,
    )
)
def test_what_is_remembered_of_a_connection_is_what_would_be_read(requests):
    memory = HeadMemory()

    for pairs in requests:
        message = message_of(pairs)
        assert answer_of(memory.read, message) == answer_of(read_head, message)


VALUES = ["", "1", "22", "\xe9", "a\x01", "two words", OUR_KEY.decode(), f"x {OUR_KEY.decode()}", "navigate", "x-one"]


@thoroughly
@example(names=["accept", "content-length"], requests=[["", "1"], ["", "\xe9"]])
@given(
    names=st.lists(spelt([*HARMLESS, *FORBIDDEN_UP, *READ, *BROWSERS]), max_size=6),
    requests=st.lists(st.lists(st.sampled_from(VALUES), min_size=6, max_size=6), min_size=2, max_size=5),
)
def test_a_head_with_other_values_is_what_would_be_read_and_checked(names, requests):
    """Whatever `again` returns equals what reading and the search for keys return."""
    memory, keys = HeadMemory(), KeyFilter(lambda key: key == OUR_KEY)
    known = None

    for values in requests:
        message = message_of(list(zip(names, values, strict=False)))
        expected = answer_of(lambda message: checked(read_head(message), keys), message)
        head = None if known is None else memory.again(message, known, keys.may_pass)
        assert head is None or head == expected
        if head is None:
            known = None
            if not isinstance(expected, str):
                known = checked(memory.read(message), keys)
                assert known == expected


@thoroughly
@given(
    free=st.lists(spelt(["traceparent", "x-request-id", "idempotency-key", "x-custom"]), unique_by=str.lower),
    value=st.text("abc123-", min_size=1, max_size=20),
)
def test_values_that_are_only_passed_on_need_no_new_checks(free, value):
    memory = HeadMemory()
    stable = [("Host", "h"), ("Content-Length", "1"), ("User-Agent", "u")]
    known = memory.read(message_of([*stable, *((name, "first") for name in free)]))
    message = message_of([*stable, *((name, value) for name in free)])

    head = memory.again(message, known, lambda _: True)

    assert head == read_head(message)
    assert memory.again(message, known, lambda _: False) is (None if free and value != "first" else known)


def checked(head, keys):
    keys.withhold(head)
    return head


def answer_of(read, message):
    try:
        return read(message)
    except RequestError as exc:
        return exc.code


@thoroughly
@given(value=st.binary(max_size=40) | st.text("MonTueJan0123456789:+-, GMT", max_size=40).map(str.encode))
def test_any_wait_that_a_backend_asks_for_is_bearable(value):
    seconds = retry_after_s(value)

    assert seconds is None or 0 <= seconds <= 300
