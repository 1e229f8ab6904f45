"""The tests that the page shows are green."""

import os
import subprocess
import sys

import pytest


# They compute for a quarter of a minute, or longer beside other tests.
@pytest.mark.timeout(180)
def test_the_tests_of_the_page_pass(root, tmp_path):
    examples = root / "docs/examples"
    path = os.pathsep.join(filter(None, [str(examples), os.environ.get("PYTHONPATH")]))
    environ = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    words = ["-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "-c", os.devnull, "--import-mode=importlib"]

    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *words, str(root / "docs/howto/testing")],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )

    assert ended.returncode == 0, ended.stdout
