"""Enums behave as before when their members are found at full speed; in a process of its own, because it stays so."""

import subprocess
import sys

SCRIPT = """
import enum, http, re, ssl, sys, timeit

from nexus.app import interpreter
from nexus.domain.outcome import Ending


class Odd(enum.Enum):
    name = 1
    value = 2
    OTHER = 3


class Later(enum.IntFlag):
    A = 1
    B = 2


interpreter.suit_a_server()
assert abs(sys.getswitchinterval() - interpreter.SWITCH_S) < 1e-6
assert Ending.FINISHED is Ending("finished") is Ending["FINISHED"]
assert Odd.name.value == 1
assert Odd.value.name == "value"
assert Odd.OTHER.name == "OTHER"
assert list(Odd) == [Odd.name, Odd.value, Odd.OTHER]
assert Later.A | Later.B == 3
assert http.HTTPStatus.OK == 200
assert re.compile("a", re.IGNORECASE | re.DOTALL).flags & re.DOTALL
assert ssl.TLSVersion.TLSv1_3.name == "TLSv1_3"
assert not hasattr(Ending, "missing")
after = enum.Enum("After", "X Y")
assert after.X.name == "X"
enum.Enum("Again", {"X": 1}, module=__name__)
enum.StrEnum("Text", {"X": "x"})
constant = Ending.FINISHED
spent = [min(timeit.repeat(said, globals=globals(), number=20_000)) for said in ("Ending.FINISHED", "constant")]
assert spent[0] < 8 * spent[1], spent
"""


def test_members_of_enums_are_found_as_before_and_at_full_speed():
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)

    assert ran.stderr == ""
    assert ran.returncode == 0
