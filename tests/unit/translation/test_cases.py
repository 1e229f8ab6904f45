"""Cases that have gone wrong in other translations, as pairs of what comes in and what must go out.

Each file of ``cases`` has the sentence that must hold, and one or more exams: the bytes of a client or a backend, and
what must come of them, written from the documents of the protocols. See ``cases/README.rst`` for the format.
"""

import json
import tomllib
from pathlib import Path

import pytest

from nexus.errors import RequestError
from nexus.simulator.settings import SimulatedModel
from nexus.simulator.strictness import check_chat, check_messages, check_ollama, check_responses
from nexus.translation.conversion import About
from nexus.translation.dialect import Target
from nexus.translation.dialects import convert
from nexus.translation.quirks import quirks_of
from nexus.wire.streams.ndjson import LineFraming
from nexus.wire.streams.sse import SSEFraming
from tests.support.answer_readers import NO_END, READERS, Violation

FOLDER = Path(__file__).parent / "cases"
CASES = {path.stem: tomllib.loads(path.read_text()) for path in sorted(FOLDER.glob("*.toml"))}
EXAMS = {
    f"{name}-{number}-{exam['client']}-{exam['backend']}": exam
    for name, case in CASES.items()
    for number, exam in enumerate(case["exams"])
}
ABOUT = About(model="asked", id="abc", created=1_700_000_000, prompt_tokens=7)
STRICT = {
    "openai.chat": check_chat,
    "openai.responses": check_responses,
    "anthropic.messages": check_messages,
    "ollama.chat": lambda body: check_ollama(body, SimulatedModel("served", capabilities=("thinking",))),
}
"""What refuses an invalid request of each dialect."""
STRICT_KINDS = {"generic", "openai", "anthropic", "ollama"}
"""The kinds whose servers do so; the others take more fields."""
REQUESTS = {
    "openai.chat": b'{"model":"asked","messages":[{"role":"user"}],"stream_options":{"include_usage":true}}',
    "openai.responses": b'{"model":"asked","input":"x"}',
    "anthropic.messages": b'{"model":"asked","max_tokens":9,"messages":[{"role":"user","content":"x"}]}',
    "ollama.chat": b'{"model":"asked","messages":[{"role":"user","content":"x"}]}',
    "ollama.generate": b'{"model":"asked","prompt":"x"}',
}
"""The requests of answers, where an exam gives none."""


@pytest.mark.parametrize("name", EXAMS)
def test_what_must_hold_does(name):
    exam = EXAMS[name]

    came = translated(exam)

    expected = json.loads(exam["expected"])
    assert matches(expected, came), f"expected {expected}\ncame {came}"


def translated(exam):
    """Return the outcome of an exam, as its ``expected`` describes it."""
    client, backend = exam["client"], exam["backend"]
    given = exam["given"].strip("\n").encode()
    kind = exam.get("kind", "generic")
    target = Target(
        model=exam.get("model", "served"),
        max_tokens=exam.get("max_tokens"),
        thinks=exam.get("thinks"),
        quirks=quirks_of(kind),
    )
    if exam["what"] == "request":
        check = STRICT[backend] if kind in STRICT_KINDS else None
        return asked(given, client, backend, target, check)
    request = exam["request"].encode() if "request" in exam else REQUESTS[client]
    conversion = convert(client, backend, request, target, ABOUT)
    if exam["what"] == "answer":
        wire = conversion.answer(given)
        return READERS[client][0](wire) | {"wire": wire.decode()}
    if exam["what"] == "error":
        wire = conversion.error(exam["status"], given, "abc")
        return {"body": json.loads(wire), "wire": wire.decode()}
    return streamed(given, client, backend, conversion)


def asked(body, client, backend, target, check):
    try:
        conversion = convert(client, backend, body, target, ABOUT)
    except RequestError as error:
        return {"refused": error.code, "param": error.param}
    request = json.loads(conversion.body)
    if check is not None:
        check(request)
    return {"body": request, "lost": list(conversion.lost), "wire": conversion.body.decode()}


def streamed(given, client, backend, conversion):
    """Return the stream in the client's dialect, which must not depend on how many events come at once."""
    has_lines = backend.startswith("ollama.")
    end = b"\n" if has_lines else b"\n\n"
    blocks = [event + end for event in given.split(end) if event]
    wires = []
    for pieces in (blocks, [b"".join(blocks)]):
        stream = conversion.stream(LineFraming() if has_lines else SSEFraming())
        wires.append(b"".join(map(stream.feed, pieces)))
    try:
        readings = [READERS[client][1](wire) for wire in wires]
    except Violation as violation:
        if violation.args[0] == NO_END:
            return {"is_open": True}
        raise
    assert readings[0] == readings[1]
    return readings[0] | {"wire": wires[0].decode()}


def matches(expected, came):
    """Whether *came* has what *expected* has: the same lists, and at least its members; see the README."""
    if isinstance(expected, dict):
        return all(_member_matches(name, value, came) for name, value in expected.items())
    if isinstance(expected, list):
        return (
            isinstance(came, list)
            and len(came) == len(expected)
            and all(matches(one, other) for one, other in zip(expected, came, strict=True))
        )
    return expected in ("*", came)


def _member_matches(name, value, came):
    if name == "contains":
        return all(text in came["wire"] for text in value)
    if name == "lacks":
        return all(text not in came["wire"] for text in value)
    if value == "(absent)":
        return came.get(name) is None
    return isinstance(came, dict) and name in came and matches(value, came[name])
