"""A machine to set up: its own /etc, /opt, /var and network, on which a page is followed word by word.

Linux namespaces make it, so only root can; the programs of this machine and the interpreter of the tests are there
under their own paths, and any user can run them. What an installer would fetch, the tests bring along.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64")
OF_ETC = ("alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "login.defs", "ssl", "services")
PROBE = "import http.client as h; h.HTTPConnection('127.0.0.1', {port}, timeout=1).connect()"

PIP = """#!/bin/sh
# Stands in for pip: what it would fetch is there already, in the packages of the tests.
set -e
echo "pip $*" >> /stand-ins/log
test "$1" = install
"""
PYTHON = """#!/bin/sh
# The interpreter of the tests; a venv that it makes finds their packages.
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
# Stands in for a program that talks to a daemon: only what it was asked is kept.
echo "{name} $*" >> /stand-ins/log
"""


def why_not():
    """Return why there can be no such root here, None when there can."""
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
        """Return where the file *name* of the machine is for the tests."""
        return self.root / str(name).lstrip("/")

    def write(self, name, text, mode=0o644):
        """Write a file as root."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def command(self, words, *, user=None, cwd="/", umask=0o022):
        """Return *words* as a command that runs on the machine, as *user* (uid, gid) without any capability."""
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
        """Run a script as a careful person would, who stops at the first error; return what it prints."""
        done = self.run(["sh", "-euc", script], **options)
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    @contextmanager
    def started(self, words, *, environ=None, log="/run/log", **options):
        """Run *words* until the end of the block, and end them with SIGTERM."""
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
        """Send a signal to what *process* runs on the machine."""
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(child), number)

    def wait_for_port(self, process, port=8000, within_s=30.0):
        """Wait until something listens on *port*; raise AssertionError when *process* ends before."""
        deadline = time.monotonic() + within_s
        while self.run([sys.executable, "-c", PROBE.format(port=port)]).returncode != 0:
            assert process.poll() is None, f"it ended with {process.returncode}:\n{process.log()}"
            assert time.monotonic() < deadline, f"it does not listen:\n{process.log()}"
            time.sleep(0.1)

    def asked(self):
        """Return what the stand-ins were asked."""
        return self.path("/stand-ins/log").read_text().splitlines()


@contextmanager
def scratch_root(folder, repository):
    """Give a machine in *folder*, which is empty; the source tree *repository* is on it, to be read."""
    folder.chmod(0o755)
    _furnish(folder)
    mounted = [name for name in _packages(repository) if not name.startswith("/usr/")]
    for name in mounted:
        (folder / name.lstrip("/")).mkdir(parents=True, exist_ok=True)
    binds = f"mount --rbind /dev {shlex.quote(str(folder))}/dev\n"
    for name in (*mounted, "/usr"):
        source, target = shlex.quote(name), shlex.quote(str(folder) + name)
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


def _packages(repository):
    """Return the folders that the interpreter of the tests imports from, and the source tree."""
    wanted = [sys.base_prefix, sys.prefix, str(repository), *(path for path in sys.path if Path(path).is_dir())]
    outer = []
    for name in sorted(dict.fromkeys(str(Path(each).resolve()) for each in wanted)):
        if not any(name == other or name.startswith(f"{other}/") for other in outer):
            outer.append(name)
    return outer


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
    sites = [path for path in sys.path if Path(path).is_dir() and not path.startswith(sys.base_prefix)]
    (stand_ins / "site.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in sites))
    python = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    _program(stand_ins / "pip", PIP)
    for name in ("python", "python3"):
        _program(stand_ins / "bin" / name, PYTHON.format(python=python))
    for name in ("systemctl", "docker"):
        _program(stand_ins / "bin" / name, RECORDED.format(name=name))


def _program(path, text):
    path.write_text(text)
    path.chmod(0o755)
