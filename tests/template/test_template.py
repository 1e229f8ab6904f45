"""A plugin that the template has just made is green, installs, and takes its place in the pipeline."""

import os
import re
import subprocess
import sys

import pytest

from tests.support.installing import install_plugin

pytestmark = pytest.mark.timeout(300)


def run(*words, cwd, **environ):
    # The tox that runs these tests would lend its folders to the one that they run.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TOX_")}
    ended = subprocess.run(words, cwd=cwd, env=inherited | environ, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"{' '.join(map(str, words))}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout


def test_its_own_tox_is_green(generate, wheels):
    folder = generate(on_error="skip", has_policy_key=True)

    # The one thing that differs from an author's machine: the core comes from a folder, not from an index.
    told = run(
        sys.executable, "-m", "tox", "-q", "-e", "lint,type,contract,docs", cwd=folder, PIP_FIND_LINKS=str(wheels)
    )

    assert "congratulations" in told


@pytest.mark.parametrize(
    "answers",
    [
        {"band": "PRIVACY", "on_error": "reject"},
        {"name": "night_owl", "has_config": False, "has_policy_key": True, "on_error": "reject"},
        {"has_config": False, "on_error": "skip", "band": "AFFINITY"},
    ],
    ids=lambda answers: "-".join(map(str, answers.values())),
)
def test_whatever_is_answered_every_check_passes(generate, tmp_path, answers):
    folder = generate(**answers)
    install_plugin(folder, tmp_path / "site")

    run(sys.executable, "-m", "ruff", "check", ".", cwd=folder)
    run(sys.executable, "-m", "ruff", "format", "--check", ".", cwd=folder)
    run(sys.executable, "-m", "mypy", "--cache-dir", tmp_path.parent / "mypy", cwd=folder)
    run(sys.executable, "-m", "pytest", "-q", cwd=folder, PYTHONPATH=str(tmp_path / "site"))


def test_its_stage_stands_in_the_pipeline_and_its_table_is_known(generate, tmp_path):
    install_plugin(generate(band="PRIVACY", on_error="skip", has_policy_key=True), tmp_path / "site")
    (tmp_path / "nexus.toml").write_text(
        '[plugins.night]\nbusy_share = 0.8\n[[routing.policies]]\nmodel_pattern = "*"\nnight_busy_share = 0.25\n'
    )

    pipeline = run(sys.executable, "-m", "nexus", "pipeline", cwd=tmp_path, PYTHONPATH=str(tmp_path / "site"))

    assert re.search(r"^ 250 night +nexus-proxy-night +skips on error$", pipeline, re.MULTILINE)


@pytest.mark.parametrize(
    "answers",
    [
        {"name": "Night"},
        {"name": "no-night"},
        {"name": "2late"},
        {"name": "privacy"},
        {"description": "Ends."},
        {"author": 'J. "D" Doe'},
    ],
)
def test_an_answer_that_would_not_work_is_refused(generate, answers):
    with pytest.raises(ValueError, match=next(iter(answers))):
        generate(**answers)


def test_its_license_is_that_of_the_core(generate, request):
    assert (generate() / "LICENSE").read_text() == (request.config.rootpath / "LICENSE").read_text()
