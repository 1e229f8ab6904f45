"""``nexus-proxy config show`` says what is in force and what set it, and shows no secret."""

import json

from nexus.testing.client import ask
from nexus.testing.fleets import backend_table
from nexus.testing.ports import free_port

CONFIG = """
[server]
api_keys = ["env:CLIENT_KEY"]
admin_keys = ["env:ADMIN_KEY"]
[queue]
max_size = 7
[store]
kind = "sqlite"
[plugins.budget]
monthly_limit_usd = 5
[[backends]]
name = "cloud"
url = "http://user:login-canary@127.0.0.1:9"
type = "openai"
headers = {"X-Team" = "header-canary", "X-Org" = "env:ORG"}
query = {"key" = "query-canary"}
"""
ENVIRON = {"CLIENT_KEY": "client-canary", "ADMIN_KEY": "admin-canary", "ORG": "org-canary"}


def test_every_key_says_what_set_it_and_no_secret_is_shown(start_nexus, command):
    nexus = start_nexus(CONFIG, environ={**ENVIRON, "NEXUS_ROUTING_STRATEGY": "random"})
    admin = {"Authorization": "Bearer admin-canary"}
    ask(nexus.url, "/admin/backends", {"name": "gpu-9", "url": "http://127.0.0.1:7", "type": "vllm"}, headers=admin)

    text = command("config", "show", **ENVIRON)
    told = json.loads(command("config", "show", "--json", **ENVIRON).stdout)

    settings = {row["key"]: (row["value"], row["origin"]) for row in told["settings"]}
    backends = {row["keys"]["name"]: row for row in told["backends"]}
    file = str(nexus.config_file)
    assert text.returncode == 0, text.stderr
    assert settings["server.port"] == (nexus.port, "command line")
    assert settings["routing.strategy"] == ("random", "NEXUS_ROUTING_STRATEGY")
    assert settings["queue.max_size"] == (7, file)
    assert settings["server.api_keys"] == (["env:CLIENT_KEY"], file)
    assert settings["plugins.budget.monthly_limit_usd"] == (5, file)
    assert settings["limits.max_event_bytes"][1] == "default"
    assert {name: row["origin"] for name, row in backends.items()} == {"cloud": file, "gpu-9": "api"}
    assert backends["cloud"]["keys"]["headers"] == {"X-Team": "***", "X-Org": "env:ORG"}
    assert '[[backends]]  # api\nname = "gpu-9"\n' in text.stdout
    assert [line for line in text.stdout.splitlines() if line.startswith("max_size = 7 ") and line.endswith(file)]
    assert "canary" not in text.stdout + json.dumps(told)


def test_without_a_proxy_the_configuration_of_a_start_from_here_is_shown(tmp_path, command):
    (tmp_path / "nexus.toml").write_text(backend_table("gpu-1", "http://127.0.0.1:9"))

    port = str(free_port())
    nothing, changed = (
        command("config", "show", "--json", *words) for words in (("--port", port), ("--set", "queue.max_size=3"))
    )

    settings = {row["key"]: (row["value"], row["origin"]) for row in json.loads(changed.stdout)["settings"]}
    assert nothing.stderr.startswith("this command read the configuration itself: no proxy answers")
    assert json.loads(nothing.stdout)["backends"][0]["keys"]["name"] == "gpu-1"
    assert (
        changed.stderr
        == "this command read the configuration itself: a running proxy does not have the options given here\n"
    )
    assert settings["queue.max_size"] == (3, "command line")
