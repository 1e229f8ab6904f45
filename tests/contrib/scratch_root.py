"""A scratch machine with its own /etc, /opt, /var and network, on which the steps of a page are executed.

Linux namespaces make it, so only root can; the programs of this machine and the interpreter of the tests are there
under their own paths, and any user can run them. What an installer would fetch is copied from the packages of the
tests, whose own folder may be closed to other users.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from importlib import metadata, util
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64")
OF_ETC = ("alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "login.defs", "ssl", "services")
PACKAGES = "/stand-ins/packages"
PROBE = "import http.client as h; h.HTTPConnection('127.0.0.1', {port}, timeout=1).connect()"

PIP = """#!/bin/sh
# Stands in for pip: the packages are installed already.
set -e
echo "pip $*" >> /stand-ins/log
test "$1" = install
"""
PYTHON = """#!/bin/sh
# The interpreter of the tests; a venv that it creates finds their packages.
if [ "$1 $2" = "-m venv" ]; then
    {python} -m venv --without-pip "$3" && cp /stand-ins/site.pth "$3"/lib/python*/site-packages/
    cp /stand-ins/pip "$3/bin/pip"
    printf '#!%s\\nfrom nexus.cli.main import main\\nmain()\\n' "$3/bin/python" > "$3/bin/nexus-proxy"
    chmod 755 "$3/bin/pip" "$3/bin/nexus-proxy"
    exit
fi
exec {python} "$@"
"""
RECORDED = """#!/bin/sh
# Stands in for a program that talks to a daemon: it only records its arguments.
echo "{name} $*" >> /stand-ins/log
"""


def why_not():
    """Return why no scratch machine can be set up here; None if it is possible."""
    if os.geteuid() != 0:
        return "only root can make namespaces and change to another user"
    if missing := [name for name in ("unshare", "nsenter", "setpriv", "mount", "ip") if shutil.which(name) is None]:
        return f"{missing} not installed"
    tried = subprocess.run(["unshare", "--mount", "--net", "--pid", "--fork", "true"], capture_output=True, check=False)
    return None if tried.returncode == 0 else f"no namespaces here: {tried.stderr.decode().strip()}"


class ScratchRoot:
    """The machine; :meth:`sh` runs commands on it."""

    def __init__(self, root, holder, repository):
        self.root = root
        self.repository = repository
        self._holder = holder

    def path(self, name):
        """Return the path of the machine's file *name* outside of the machine."""
        return self.root / str(name).lstrip("/")

    def write(self, name, text, mode=0o644):
        """Write a file as root."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def command(self, words, *, user=None, cwd="/", umask=0o022):
        """Return the command that runs *words* on the machine as *user* (uid, gid), without capabilities."""
        inside = ["nsenter", "--target", str(self._holder), "--mount", "--net", "--pid", "--root"]
        inside += ["env", "--chdir=/"]
        dropped = [] if user is None else [
            *("setpriv", f"--reuid={user[0]}", f"--regid={user[1]}", "--clear-groups"),
            *("--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"),
        ]  # fmt: skip
        script = f'umask {umask:o}; cd {shlex.quote(cwd)}; exec "$@"'
        return [*inside, *dropped, "sh", "-c", script, "sh", *map(str, words)]

    def environ(self, **further):
        return {"PATH": "/stand-ins/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/", "LANG": "C.UTF-8", **further}

    def run(self, words, *, environ=None, within_s=60, **options):
        """Run *words* to their end."""
        return subprocess.run(
            self.command(words, **options),
            env=self.environ(**(environ or {})),
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
        )

    def sh(self, script, **options):
        """Run a script up to its first error, and return its output."""
        done = self.run(["sh", "-euc", script], **options)
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    @contextmanager
    def started(self, words, *, environ=None, log="/run/log", **options):
        """Run *words* for the duration of the block, and end them with SIGTERM."""
        log_file = self.path(log)
        with log_file.open("wb") as output:
            process = subprocess.Popen(
                self.command(words, **options),
                env=self.environ(**(environ or {})),
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        process.log = lambda: log_file.read_text(errors="replace")
        try:
            yield process
        finally:
            if process.poll() is None:
                self.kill(process)
                process.wait(20)

    def kill(self, process, number=signal.SIGTERM):
        """Send a signal to the command of *process* on the machine."""
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(child), number)

    def wait_for_port(self, process, port=8000, within_s=30.0):
        """Wait until *port* accepts connections. Raise AssertionError if *process* ends before."""
        deadline = time.monotonic() + within_s
        while self.run([sys.executable, "-c", PROBE.format(port=port)]).returncode != 0:
            assert process.poll() is None, f"it ended with {process.returncode}:\n{process.log()}"
            assert time.monotonic() < deadline, f"it does not listen:\n{process.log()}"
            time.sleep(0.1)

    def asked(self):
        """Return the arguments that the stand-ins recorded."""
        return self.path("/stand-ins/log").read_text().splitlines()


def copy_packages(folder):
    """Copy the distributions of Nexus, its plugins and their requirements into *folder*, readable by any user."""
    folder.mkdir(parents=True)
    # Of two with a name, Python imports the first.
    installed = {canonicalize_name(found.name): found for found in reversed([*metadata.distributions()])}
    wanted = [name for name in installed if name.startswith("nexus-proxy")]
    for name in wanted:
        distribution = installed[name]
        for source, place in _files(distribution):
            target = folder / place
            if Path(source).is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
        needed = [Requirement(line) for line in distribution.requires or ()]
        names = [canonicalize_name(each.name) for each in needed if not each.marker or each.marker.evaluate()]
        wanted += [each for each in names if each not in wanted]
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _files(distribution):
    """Yield each file of a distribution, with its path in ``site-packages``."""
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    editable = origin.get("dir_info", {}).get("editable", False)
    for each in distribution.files or ():
        # An editable installation has only metadata here; commands are outside.
        if ".." not in each.parts and (not editable or each.parts[0].endswith(".dist-info")):
            yield each.locate(), each
    if editable:
        for name in (distribution.read_text("top_level.txt") or "").split():
            package = Path(util.find_spec(name).origin).parent
            for path in package.rglob("*"):
                if path.is_file() and "__pycache__" not in path.parts:
                    yield path, path.relative_to(package.parent)


@contextmanager
def scratch_root(folder, repository, packages):
    """Create a machine in the empty *folder*.

    :param repository: the source tree, which root can read there.
    :param packages: what :func:`copy_packages` has filled.
    """
    folder.chmod(0o755)
    _furnish(folder)
    places = {str(packages): PACKAGES, str(repository): str(repository)}
    places |= {name: name for name in _interpreter(repository)}
    binds = f"mount --rbind /dev {shlex.quote(str(folder))}/dev\n"
    for name, place in (*places.items(), ("/usr", "/usr")):
        if name == "/usr" or not name.startswith("/usr/"):
            (folder / place.lstrip("/")).mkdir(parents=True, exist_ok=True)
            source, target = shlex.quote(name), shlex.quote(str(folder) + place)
            binds += f"mount --bind {source} {target} && mount -o remount,ro,bind {target}\n"
    script = (
        f"set -e; mount --make-rprivate /; mount --bind {folder} {folder}\n{binds}"
        f"mount -t proc proc {folder}/proc; ip link set lo up\n"
        f"exec chroot {folder} sh -c 'echo ready; exec sleep infinity'"
    )
    words = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", script]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout.readline() == "ready\n", holder.stderr.read()
            (child,) = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()
            yield ScratchRoot(folder, int(child), repository)
        finally:
            holder.kill()


def _interpreter(repository):
    """Return the folders of the interpreter, without nested ones."""
    wanted = {str(Path(name).resolve()) for name in (sys.base_prefix, sys.prefix, *sys.path) if Path(name).is_dir()}
    outer = [str(repository)]
    for name in sorted(wanted):
        if not any(name == other or name.startswith(f"{other}/") for other in outer):
            outer.append(name)
    return outer[1:]


def _furnish(folder):
    for name, mode in {"etc": 0o755, "opt": 0o755, "root": 0o755, "run": 0o755, "proc": 0o755, "dev": 0o755,
                       "usr": 0o755, "tmp": 0o1777, "var/lib": 0o755, "stand-ins/bin": 0o755}.items():  # fmt: skip
        (folder / name).mkdir(parents=True)
        (folder / name).chmod(mode)
    for name in SYSTEM[1:]:
        if Path(name).is_symlink():
            (folder / name[1:]).symlink_to(Path(name).readlink())
    etc = folder / "etc"
    for name in OF_ETC:
        source = Path("/etc") / name
        if source.is_dir():
            shutil.copytree(source, etc / name, symlinks=True, ignore=shutil.ignore_patterns("private"))
        elif source.exists():
            shutil.copy(source, etc / name)
    (etc / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n")
    (etc / "group").write_text("root:x:0:\nnogroup:x:65534:\n")
    (etc / "shadow").write_text("root:*:1::::::\nnobody:*:1::::::\n")
    (etc / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    stand_ins = folder / "stand-ins"
    (stand_ins / "log").touch()
    (stand_ins / "log").chmod(0o666)
    (stand_ins / "site.pth").write_text(f"{PACKAGES}\n")
    python = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    _program(stand_ins / "pip", PIP)
    for name in ("python", "python3"):
        _program(stand_ins / "bin" / name, PYTHON.format(python=python))
    for name in ("systemctl", "docker"):
        _program(stand_ins / "bin" / name, RECORDED.format(name=name))


def _program(path, text):
    path.write_text(text)
    path.chmod(0o755)
