"""The Dockerfile, followed step by step, and the containers that the page about it runs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

KEY = "the-key-of-the-page"
FILE = "/etc/nexus-proxy/nexus.toml"
VOLUME = "/var/lib/nexus-proxy"


@pytest.fixture
def image(scratch, root, dockerfile):
    return dockerfile.Image(scratch, root, (root / "contrib/docker/Dockerfile").read_text())


def ask(scratch, path="/health", key=None, port=8000):
    """Return the status of *path*, asked with curl."""
    header = f"-H 'Authorization: Bearer {key}'" if key else ""
    return int(scratch.sh(f"curl -s -o /run/answer -w '%{{http_code}}' {header} http://127.0.0.1:{port}{path}"))


def test_what_the_builder_is_given_is_enough_to_build_and_has_no_secret(image, scratch, root, tmp_path):
    given = {str(path.relative_to(root)) for path in image.copied(".")}

    assert not [name for name in given if not re.match(r"nexus/|contrib/docker/nexus\.toml$|[^/]+$", name)]
    assert {name for name in given if "/" not in name} <= {
        *("pyproject.toml", "setup.cfg", "MANIFEST.in", "README.rst", "LICENSE")
    }
    build = "import sys, setuptools.build_meta as b; print(b.build_wheel(sys.argv[1]))"
    source = scratch.path("/source")
    done = subprocess.run(
        [sys.executable, "-c", build, tmp_path], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("nexus_proxy-")


def test_both_stages_have_the_interpreter_that_the_page_names(root):
    stages = re.findall(r"^FROM python:([\d.]+)-slim", (root / "contrib/docker/Dockerfile").read_text(), re.MULTILINE)
    named = re.findall(r"The image has Python ([\d.]+),", (root / "docs/howto/docker.rst").read_text())

    assert (len(stages), set(stages)) == (2, set(named))


def test_a_container_without_its_key_ends_with_a_sentence(image):
    ended = image.run()

    assert ended.returncode == 78
    assert "the variable NEXUS_API_KEY is not set" in ended.stderr


def test_a_container_serves_keeps_its_store_and_ends_when_it_is_told(image, scratch):
    with image.started(NEXUS_API_KEY=KEY) as process:
        scratch.wait_for_port(process, *image.ports)
        healthy = image.health()
        statuses = [ask(scratch), ask(scratch, key=KEY), ask(scratch, "/v1/models", key=KEY)]
        scratch.kill(process)
        code = process.wait(20)
    gone = image.health()

    assert (healthy, code) == (0, 0)
    assert gone != 0
    assert statuses == [401, 200, 200]
    assert image.volumes == (VOLUME,)
    store = scratch.path(f"{VOLUME}/nexus.sqlite3").stat()
    assert (store.st_uid, store.st_gid) == image.user == (10_001, 10_001)


def test_each_container_of_the_page_does_what_the_page_says(image, scratch, blocks_of, dockerfile, simulated):
    first, second, signals, *_ = blocks_of("docker", "sh")
    (config,) = blocks_of("docker", "toml")
    url = simulated()
    scratch.write("/srv/nexus.toml", config.replace("http://gpu-1:8000", url), mode=0o640)
    runs = [_runs(script) for script in (first, second)]
    mounts, _, ports, words = dockerfile.container_of(runs[0][0], {"NEXUS_API_KEY": KEY})
    assert (ports, words) == (["127.0.0.1:8000:8000"], [])
    assert mounts == [f"nexus-proxy:{image.volumes[0]}"]

    # The second script, with a file that the user of the image cannot read, and then as the page says.
    _mount(scratch, dockerfile, runs[1][0])
    unreadable = image.run(environ={"NEXUS_API_KEY": KEY})
    scratch.sh(next(line for line in second.splitlines() if line.startswith("chmod")), cwd="/srv")
    words = _mount(scratch, dockerfile, runs[1][0])
    checked = image.run(*words, environ={"NEXUS_API_KEY": KEY})
    assert _mount(scratch, dockerfile, runs[1][1]) == []
    with image.started(NEXUS_API_KEY=KEY) as process:
        scratch.wait_for_port(process, *image.ports)
        status = ask(scratch, "/v1/models", key=KEY)
        models = json.loads(scratch.path("/run/answer").read_text())
        scratch.kill(process, 1)
        scratch.kill(process)
        code = process.wait(20)

    assert (unreadable.returncode, checked.returncode) == (78, 0), unreadable.stderr + checked.stderr
    assert f"{FILE}: cannot be read: Permission denied" in unreadable.stderr
    assert (status, [model["id"] for model in models["data"]], code) == (200, ["llama3"], 0)
    assert signals.split() == ["docker", "kill", "-s", "HUP", "nexus", "docker", "stop", "-t", "330", "nexus"]


def test_a_plugin_is_installed_on_top_of_the_image(image, scratch, blocks_of, dockerfile):
    (text,) = blocks_of("docker", "docker")
    user = image.user

    for name, rest in dockerfile.instructions(text):
        if name == "RUN":
            scratch.sh(rest)

    assert ("COPY", ". /source") in dockerfile.instructions(text)
    assert scratch.asked()[-1].endswith("install --no-cache-dir /source")
    assert dockerfile.instructions(text)[-1] == ("USER", f"{user[0]}:{user[1]}")


def _runs(script):
    return re.findall(r"^docker run .*$", script.replace("\\\n", ""), re.MULTILINE)


def _mount(scratch, dockerfile, command):
    """Put the files that *command* mounts in their places, and return its words."""
    mounts, _, _, words = dockerfile.container_of(command.replace("$PWD", "/srv"), {"NEXUS_API_KEY": KEY})
    for source, target in (mount.split(":")[:2] for mount in mounts if mount.startswith("/")):
        place = scratch.path(target)
        place.unlink(missing_ok=True)
        os.link(scratch.path(source), place)
        assert Path(place).stat().st_uid == 0
    return words
