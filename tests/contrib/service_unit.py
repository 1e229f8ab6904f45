"""Runs a systemd unit as systemd would, with the unit's restrictions on files and resources."""

import os
import shlex
import shutil
import socket
from contextlib import contextmanager

DYNAMIC_USER = 61_234, 61_234
"""A dynamic user of systemd, which is not in /etc/passwd."""
SPECIFIERS = {"%S": "/var/lib", "%t": "/run", "%d": "/run/credentials/{name}.service"}


class Unit:
    """The unit *name*: its file in /etc/systemd/system, and its drop-ins."""

    def __init__(self, machine, name):
        self.machine = machine
        self.name = name
        self.keys = {}
        files = [f"/etc/systemd/system/{name}.service", f"/etc/systemd/system/{name}.service.d/override.conf"]
        for file in (machine.path(each) for each in files):
            for line in file.read_text().splitlines() if file.exists() else ():
                key, equals, value = line.partition("=")
                if equals and not line.startswith("#"):
                    self.keys.setdefault(key, []).append(self._expanded(value))

    def one(self, key, otherwise=""):
        return self.keys.get(key, [otherwise])[-1]

    @property
    def gives_up_at(self):
        """The exit codes after which the service is not restarted."""
        return {int(code) for code in self.one("RestartPreventExitStatus").split()}

    @contextmanager
    def started(self):
        """Run the service for the duration of the block; :attr:`told` has its notifications."""
        assert self.one("DynamicUser") == "yes"
        environ = {}
        for key, variable, parent in (
            ("StateDirectory", "STATE_DIRECTORY", "/var/lib"),
            ("RuntimeDirectory", "RUNTIME_DIRECTORY", "/run"),
        ):
            environ[variable] = f"{parent}/{self.one(key)}"
            self._give(environ[variable], int(self.one(f"{key}Mode", "0755"), 8))
        environ |= self._credentials() | self._environment()
        address = self.machine.path("/run/notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as self._manager:
            self._manager.bind(str(address))
            address.chmod(0o777)
            self._manager.settimeout(30)
            words = shlex.split(self.one("ExecStart"))
            try:
                with self.machine.started(
                    words,
                    user=DYNAMIC_USER,
                    cwd=self.one("WorkingDirectory"),
                    umask=int(self.one("UMask"), 8),
                    environ={**environ, "NOTIFY_SOCKET": "/run/notify", **self._watchdog()},
                    log=f"/run/{self.name}.log",
                ) as process:
                    yield process
            finally:
                address.unlink()

    def told(self):
        """Wait for its next notification to systemd."""
        return self._manager.recv(4096).decode()

    def command(self, key):
        """Return the command with which the unit reloads the running process."""
        return shlex.split(self.one(key))

    def main_pid(self):
        """Return the process id inside of the machine."""
        (found,) = self.machine.sh(f"pgrep -u {DYNAMIC_USER[0]} -f {shlex.split(self.one('ExecStart'))[0]}").split()
        return found

    def _watchdog(self):
        return {"WATCHDOG_USEC": f"{self.one('WatchdogSec')}000000"} if "WatchdogSec" in self.keys else {}

    def _expanded(self, value):
        for specifier, path in SPECIFIERS.items():
            value = value.replace(specifier, path.format(name=self.name))
        return value

    def _give(self, folder, mode):
        path = self.machine.path(folder)
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)
        os.chown(path, *DYNAMIC_USER)

    def _environment(self):
        name = self.one("EnvironmentFile")
        file = self.machine.path(name.removeprefix("-"))
        if not file.exists():
            assert name.startswith("-"), f"{file} must be there"
            return {}
        return dict(line.split("=", 1) for line in file.read_text().splitlines() if line and not line.startswith("#"))

    def _credentials(self):
        folder = f"/run/credentials/{self.name}.service"
        for credential in self.keys.get("LoadCredential", ()):
            name, _, source = credential.partition(":")
            self._give(folder, 0o500)
            shutil.copy(self.machine.path(source), self.machine.path(f"{folder}/{name}"))
            self.machine.path(f"{folder}/{name}").chmod(0o400)
            os.chown(self.machine.path(f"{folder}/{name}"), *DYNAMIC_USER)
        return {"CREDENTIALS_DIRECTORY": folder} if "LoadCredential" in self.keys else {}
