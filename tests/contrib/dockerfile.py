"""Executes a Dockerfile on a scratch machine, as a builder and a container runtime would."""

import fnmatch
import json
import re
import shlex
import shutil
from contextlib import contextmanager


class Image:
    """The image that a Dockerfile builds, and its containers."""

    def __init__(self, machine, context, dockerfile):
        self.machine = machine
        self.context = context
        self.user = (0, 0)
        self.folder = "/"
        self.volumes = ()
        self.ports = ()
        self.entrypoint = self.words = self.health_check = ()
        self._ignored = (context / ".dockerignore").read_text().splitlines()
        for name, rest in instructions(dockerfile):
            getattr(self, f"_{name.lower()}")(rest)

    def copied(self, source):
        """Return the files of the build context under *source*, relative to it."""
        base = self.context / source
        files = [base] if base.is_file() else [path for path in base.rglob("*") if path.is_file()]
        return [path for path in files if not _is_ignored(str(path.relative_to(self.context)), self._ignored)]

    def run(self, *words, environ=None):
        """Run a container to its end, with *words* in place of CMD."""
        command = [*self.entrypoint, *(words or self.words)]
        return self.machine.run(command, user=self.user, cwd=self.folder, environ=environ)

    @contextmanager
    def started(self, **environ):
        """Run a container for the duration of the block."""
        command = [*self.entrypoint, *self.words]
        with self.machine.started(command, user=self.user, cwd=self.folder, environ=environ) as process:
            yield process

    def health(self):
        """Return the exit code of the health check."""
        return self.machine.run(self.health_check, user=self.user, cwd=self.folder).returncode

    def _from(self, rest):
        self.user, self.folder = (0, 0), "/"

    def _copy(self, rest):
        flags = dict(flag.removeprefix("--").split("=") for flag in rest.split() if flag.startswith("--"))
        source, target = (word for word in rest.split() if not word.startswith("--"))
        if "from" in flags:
            # The stages share the machine, so COPY --from has nothing to do.
            assert source == target
            assert self.machine.path(source).exists()
            return
        for path in self.copied(source):
            place = path.relative_to(self.context / source)
            to = self.machine.path(target) / place if str(place) != "." else self.machine.path(target)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, to)
            to.chmod(int(flags.get("chmod", "644"), 8))

    def _run(self, rest):
        self.machine.sh(rest, cwd=self.folder, user=None if self.user == (0, 0) else self.user)

    def _user(self, rest):
        user, _, group = rest.partition(":")
        self.user = int(user), int(group)

    def _workdir(self, rest):
        self.folder = rest
        assert self.machine.path(rest).is_dir()

    def _volume(self, rest):
        self.volumes = tuple(rest.split())

    def _expose(self, rest):
        self.ports = tuple(map(int, rest.split()))

    def _healthcheck(self, rest):
        self.health_check = json.loads(rest.partition("CMD ")[2])

    def _entrypoint(self, rest):
        self.entrypoint = json.loads(rest)

    def _cmd(self, rest):
        self.words = json.loads(rest)


def instructions(dockerfile):
    """Return the instructions of *dockerfile* with their arguments."""
    lines = re.sub(r"^#.*\n", "", dockerfile, flags=re.MULTILINE).replace("\\\n", "").splitlines()
    return [tuple(line.split(None, 1)) for line in lines if line.strip()]


def container_of(command, environ):
    """Return the mounts, variables, ports and arguments of a ``docker run``."""
    words = shlex.split(command)
    assert words[:2] == ["docker", "run"], command
    asked = {"-v": [], "-e": [], "-p": [], "--name": []}
    at = 2
    while words[at].startswith("-"):
        if words[at] in asked:
            asked[words[at]].append(words[at + 1])
            at += 1
        at += 1
    variables = {name: environ[name] for name in asked["-e"]}
    return asked["-v"], variables, asked["-p"], words[at + 1 :]


def _is_ignored(path, patterns):
    """Whether *path* is excluded: the last matching pattern decides, and a folder matches all files in it."""
    ignored = False
    parts = path.split("/")
    prefixes = ["/".join(parts[: n + 1]) for n in range(len(parts))]
    for pattern in (line for line in patterns if line and not line.startswith("#")):
        bare = pattern.removeprefix("!").removeprefix("**/")
        names = parts if pattern.startswith("**/") else prefixes
        if any(fnmatch.fnmatchcase(name, bare) for name in names):
            ignored = not pattern.startswith("!")
    return ignored
