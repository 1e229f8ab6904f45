"""A llama.cpp behind the proxy: names that it takes, its router mode, and the time in which it loads its model."""

import pytest

from nexus.simulator import SimulatedModel, Status
from nexus.testing.client import ask, chat
from nexus.testing.fleets import table_of
from nexus.testing.waiting import until

CHAT = "/v1/chat/completions"
QUICK = "[health_check]\ninterval_seconds = 0.2\n"
QWEN = SimulatedModel("qwen3-8b", 8192, aliases=("qwen3", "small"))
LOADING = '{"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}'


def only(nexus):
    (row,) = nexus.get_json("/admin/backends")["backends"]
    return row


def test_an_alias_is_another_name_of_the_model(start_nexus, simulate):
    llama, other = simulate(name="cpp", kind="llamacpp", models=(QWEN,)), simulate(name="gpu-2")
    nexus = start_nexus(table_of(llama) + table_of(other))

    replies = [ask(nexus.url, CHAT, chat(name)) for name in ("qwen3-8b", "qwen3", "small")]
    unknown = ask(nexus.url, CHAT, chat("large"))

    assert [(reply.status, reply.headers["X-Nexus-Backend"]) for reply in replies] == [(200, "cpp")] * 3
    assert unknown.status == 404


def test_a_llamacpp_that_is_the_whole_fleet_answers_to_any_name(start_nexus, simulate):
    nexus = start_nexus(table_of(simulate(kind="llamacpp", models=(QWEN,))))

    reply = ask(nexus.url, CHAT, chat("gpt-3.5-turbo"))

    assert (reply.status, reply.json()["model"]) == (200, "gpt-3.5-turbo")


def test_an_alias_of_the_configuration_and_a_listed_model_come_before_a_backend_that_takes_any(start_nexus, simulate):
    gateway, other = simulate(name="gateway", kind="llamacpp", models=(QWEN,)), simulate(name="gpu-2")
    nexus = start_nexus(
        '[routing.aliases]\ngpt-4o = "llama3"\n' + table_of(gateway, accepts_any_model=True) + table_of(other)
    )

    answered = {name: ask(nexus.url, CHAT, chat(name)) for name in ("llama3", "gpt-4o", "anything")}

    assert {name: reply.headers["X-Nexus-Backend"] for name, reply in answered.items()} == {
        "llama3": "gpu-2",
        "gpt-4o": "gpu-2",
        "anything": "gateway",
    }
    assert {reply.status for reply in answered.values()} == {200}
    assert b'"anything"' in gateway.received(CHAT)[-1].request.body


def test_an_operator_can_say_that_it_does_not_take_any_name(start_nexus, simulate):
    nexus = start_nexus(table_of(simulate(kind="llamacpp", models=(QWEN,)), accepts_any_model=False))

    assert ask(nexus.url, CHAT, chat("gpt-3.5-turbo")).status == 404


def test_a_router_takes_the_names_that_it_lists(start_nexus, simulate):
    models = SimulatedModel("loaded", 4096, status="loaded"), SimulatedModel("cold", 4096, status="unloaded")
    nexus = start_nexus(table_of(simulate(kind="llamacpp", models=models)))

    statuses = [ask(nexus.url, CHAT, chat(name)).status for name in ("loaded", "cold", "nope")]
    contexts = {model["name"]: model["context_length"] for model in only(nexus)["models"]}

    assert statuses == [200, 200, 404]
    assert contexts == {"loaded": 4096, "cold": None}


@pytest.mark.parametrize("kind", ["auto", "llamacpp"])
def test_a_server_that_loads_its_model_says_so_and_serves_when_it_is_ready(start_nexus, simulate, command, kind):
    llama = simulate(kind="llamacpp", models=(QWEN,))
    llama.faults.set(Status(status=503, body=LOADING, on="all"))
    nexus = start_nexus(QUICK + table_of(llama, type=kind))
    loading = until(lambda: (row := only(nexus))["status"] == "loading" and row)

    told = ask(nexus.url, CHAT, chat("qwen3-8b"))
    listed = command("backends", "--url", nexus.url).stdout
    llama.faults.clear()
    until(lambda: ask(nexus.url, CHAT, chat("qwen3-8b")).status == 200, within_s=1)

    assert (loading["backend_type"], "loading" in loading["last_error"]) == ("llamacpp", True)
    assert (told.status, bool(told.headers["Retry-After"])) == (503, True)
    assert "loading" in listed
    until(lambda: only(nexus)["status"] == "healthy", within_s=2)


def test_a_model_that_was_served_before_the_server_loads_it_again_is_asked_of_it(start_nexus, simulate):
    llama = simulate(kind="llamacpp", models=(QWEN,))
    nexus = start_nexus(QUICK + table_of(llama))
    ask(nexus.url, CHAT, chat("qwen3-8b"))

    llama.faults.set(Status(status=503, body=LOADING, on="all"))
    until(lambda: only(nexus)["status"] == "loading")
    told = ask(nexus.url, CHAT, chat("qwen3-8b"))

    assert (told.status, bool(told.headers["Retry-After"])) == (503, True)
    assert "Loading model" in told.body.decode()
