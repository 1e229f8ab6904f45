"""What /openapi.json describes is asked, well and badly: nothing breaks, and every answer is as it is described."""

import subprocess
import sys
from pathlib import Path

import pytest

from nexus.simulator import Settings, SimulatedModel, Simulator, in_thread
from nexus.testing.fleets import table_of
from tests.support.process import run_nexus

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
KEYS = '[server]\napi_keys = ["env:CLIENT_KEY"]\nadmin_keys = ["env:ADMIN_KEY"]\n'
SECRETS = {"CLIENT_KEY": "client-sesame", "ADMIN_KEY": "admin-sesame"}
EXAMPLES = "15"

EXPLAIN = "/v1/route/explain"
DRAIN = "/admin/backends/{name}/{action}"
ADD = "/admin/backends"
CHANGE = "/admin/backends/{name}"
APART = (EXPLAIN, DRAIN, ADD, CHANGE, "/ws")
BODIES_ARE_FREE = ("--exclude-checks", "positive_data_acceptance")
"""What the body of a request to a model may be, the backend says, and for the endpoint the path."""


@pytest.fixture
def proxy(tmp_path):
    """A proxy that asks for keys."""
    gpu = Simulator(Settings(name="gpu", kind="vllm", models=("llama3",)))
    laptop = Simulator(Settings(name="laptop", kind="ollama", models=(SimulatedModel("gemma"),)))
    with (
        in_thread(gpu, laptop),
        run_nexus(tmp_path, KEYS + table_of(gpu) + table_of(laptop), environ=SECRETS) as nexus,
    ):
        yield nexus


@pytest.mark.skipif(not SCHEMATHESIS.exists(), reason="schemathesis is not installed (tox -e tools has it)")
@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("--include-tag", "carried", *BODIES_ARE_FREE), id="carried"),
        pytest.param(("--include-path", EXPLAIN, *BODIES_ARE_FREE), id="explain"),
        pytest.param(
            ("--exclude-tag", "carried", *(word for path in APART for word in ("--exclude-path", path))),
            id="answered",
        ),
        # Which keys and values a backend may have, the reference of the configuration says.
        pytest.param(("--include-path", ADD, "--include-path", CHANGE, *BODIES_ARE_FREE), id="fleet"),
        # By itself: afterwards nobody is left to answer.
        pytest.param(("--include-path", DRAIN), id="drain"),
    ],
)
def test_what_is_described_is_what_is_done(proxy, tmp_path, words):
    command = (SCHEMATHESIS, "run", f"{proxy.url}/openapi.json", "-H", f"Authorization: Bearer {SECRETS['ADMIN_KEY']}")
    bounds = (
        "--seed",
        "1",
        "--max-examples",
        EXAMPLES,
        "--phases",
        "coverage,fuzzing",
        "--generation-database",
        "none",
    )

    ended = subprocess.run(
        [*command, *bounds, "--no-color", *words], cwd=tmp_path, capture_output=True, text=True, timeout=55, check=False
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "generated" in ended.stdout
    assert '"level":"error"' not in proxy.log_text()
