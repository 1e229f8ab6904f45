"""Whatever is logged, it is one line that a terminal can take, and no secret is in it."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.observability.logging.rendering import Redactor, json_line, json_line_of, pretty_line

quick = settings(max_examples=100, deadline=None)

texts = st.text(st.characters(), max_size=300)
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts, st.binary(max_size=300)),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(texts, inner), st.tuples(inner, inner)),
    max_leaves=10,
)
fields = st.dictionaries(st.text("abcdef_", min_size=1), anything, max_size=5)


@quick
@given(event=texts, fields=fields)
def test_any_entry_is_one_harmless_line(event, fields):
    entry = (1_700_000_000_123_456_789, "info", "nexus", {"event": event, **fields})

    for line in (json_line(entry, Redactor()), pretty_line(entry, Redactor())):
        assert line.endswith(b"\n")
        assert not any(c < " " or "\x7f" <= c <= "\x9f" or "\u202a" <= c <= "\u202e" for c in line.decode()[:-1])

    assert msgspec.json.decode(json_line(entry, Redactor())).keys() >= {
        "timestamp",
        "level",
        "logger",
        "event",
        *fields,
    }


class Members(msgspec.Struct):
    a: str | None
    b: int
    c: float
    d: list[str]


keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=4, max_size=20)
short = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@quick
@given(
    members=st.builds(
        Members,
        a=st.none() | short,
        b=st.integers(-(2**53), 2**53),
        c=st.floats(allow_nan=False),
        d=st.lists(short, max_size=4),
    ),
    time_ns=st.integers(0, 4_000_000_000_000_000_000),
    secrets=st.lists(short, max_size=3),
)
def test_members_are_encoded_as_fields_are(members, time_ns, secrets):
    hidden = Redactor()
    for secret in secrets:
        hidden.add(secret)
    fields = {"event": "e", **msgspec.to_builtins(members)}

    line = json_line_of(members, "e", (time_ns, "info", "nexus"), hidden)

    assert line == json_line((time_ns, "info", "nexus", fields), hidden)
    assert line.count(b"\n") == 1


@quick
@given(
    secrets=st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=4, max_size=20), min_size=1, max_size=12
    ),
    chosen=st.integers(0, 11),
    before=short,
    after=short,
)
def test_each_of_many_secrets_is_in_no_line_of_members(secrets, chosen, before, after):
    hidden = Redactor()
    for one in secrets:
        hidden.add(one)
    secret = secrets[chosen % len(secrets)]
    members = Members(before + secret + after, 1, 0.5, [secret])

    line = json_line_of(members, "e", (0, "info", "n"), hidden)

    assert line == json_line((0, "info", "n", {"event": "e", **msgspec.to_builtins(members)}), hidden)
    assert "***" in msgspec.json.decode(line)["d"][0]


@quick
@given(
    secret=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=4, max_size=40),
    before=texts,
    after=texts,
)
def test_a_secret_is_in_no_line_wherever_it_stands(secret, before, after):
    hidden = Redactor()
    hidden.add(secret)
    spoken = before + secret + after
    entry = (0, "info", "n", {"event": "e", "text": spoken, "deep": [{"k": spoken}], spoken: 1})

    rendered = msgspec.json.decode(json_line(entry, hidden))

    assert secret not in rendered["text"].replace("***", "")
    assert secret not in str(rendered["deep"][0]["k"]).replace("***", "")
    assert all(secret not in name.replace("***", "") for name in rendered.keys() - {"timestamp"})
