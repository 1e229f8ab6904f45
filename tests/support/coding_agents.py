"""Runs coding agents from npm, with nothing of the user's own, and no way to the internet."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

MAX_RUN_S: Final = 90.0
NO_WAY_OUT: Final = "http://127.0.0.1:9"
"""A proxy that is not there: what does not go to this machine fails at once."""


class Agents:
    """The agents that are installed in one folder of npm."""

    def __init__(self, folder: Path, path: str) -> None:
        self._modules = folder / "node_modules"
        self._path = path

    def claude_code(self, url: str, model: str, task: str, folder: Path) -> str:
        """Let Claude Code do *task* in *folder*, and return what it says at the end."""
        # As the package's own install script may not run, this finds the program.
        wrapper = self._modules / "@anthropic-ai/claude-code/cli-wrapper.cjs"
        words = (
            "-p",
            task,
            "--model",
            model,
            "--permission-mode",
            "acceptEdits",
            "--allowedTools",
            "Write,Edit,Read,Bash",
        )
        own = {
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_AUTH_TOKEN": "none",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_TELEMETRY": "1",
            "DISABLE_ERROR_REPORTING": "1",
            "DISABLE_AUTOUPDATER": "1",
        }
        return self._run(wrapper, words, folder, own)

    def codex(self, url: str, model: str, task: str, folder: Path) -> str:
        """Let Codex do *task* in *folder*, and return what it says at the end."""
        home = self._home(folder) / ".codex"
        home.mkdir(exist_ok=True)
        (home / "config.toml").write_text(CODEX_CONFIG.format(model=model, url=url))
        # The tests are the sandbox: Codex's own needs rights that a container does not have.
        words = ("exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", task)
        return self._run(self._modules / "@openai/codex/bin/codex.js", words, folder, {"NEXUS_KEY": "none"})

    def _run(self, program: Path, words: tuple[str, ...], folder: Path, own: Mapping[str, str]) -> str:
        ended = subprocess.run(
            ["node", str(program), *words],
            cwd=folder,
            env={
                "PATH": self._path,
                "HOME": str(self._home(folder)),
                "TERM": "dumb",
                "HTTPS_PROXY": NO_WAY_OUT,
                "HTTP_PROXY": NO_WAY_OUT,
                "NO_PROXY": "127.0.0.1,localhost",
                **own,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=MAX_RUN_S,
            check=False,
        )
        if ended.returncode != 0:
            raise AssertionError(f"the agent ended with {ended.returncode}:\n{ended.stdout}\n{ended.stderr}")
        return ended.stdout

    @staticmethod
    def _home(folder: Path) -> Path:
        home = folder.parent / "home"
        home.mkdir(exist_ok=True)
        return home


CODEX_CONFIG: Final = """
model = "{model}"
model_provider = "nexus"
model_context_window = 65536
check_for_update_on_startup = false

[model_providers.nexus]
name = "Nexus"
base_url = "{url}/v1"
env_key = "NEXUS_KEY"
wire_api = "responses"

[analytics]
enabled = false
"""
