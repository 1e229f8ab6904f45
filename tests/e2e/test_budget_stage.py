"""A started nexus-proxy keeps a monthly budget: for the openai library, over restarts, kills and two processes."""

import http.client
import json
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

import ollama
import openai
import pytest

from nexus.testing.client import ask, chat
from nexus.testing.fleets import table_of
from nexus.testing.waiting import until
from tests.support.process import run_nexus

pytest.importorskip("nexus_budget")

CONFIG = """
[store]
kind = "sqlite"
path = "{store}"
[routing]
strategy = "priority_only"
{routing}
[plugins.budget]
{budget}
sync_interval_seconds = 0.2
[[plugins.budget.prices]]
model = "paid*"
input_usd_per_1m = 1000.0
output_usd_per_1m = 1000.0
"""


@pytest.fixture
def start(tmp_path, simulate):
    """Start a proxy in front of a paid backend; those of one test share a store."""
    with ExitStack() as running:
        count = 0

        def begin(budget, *, backends="", routing="", slow=None, kind="openai", **settings):
            nonlocal count
            count += 1
            folder = tmp_path / str(count)
            folder.mkdir()
            cloud = slow or simulate(name="cloud", models=("paid",), **settings)
            table = table_of(cloud, type=kind, priority=0, max_in_flight=1000)
            config = CONFIG.format(store=tmp_path / "nexus.sqlite3", budget=budget, routing=routing)
            return running.enter_context(run_nexus(folder, config + table + backends))

        yield begin


def client(nexus):
    return openai.OpenAI(base_url=f"{nexus.url}/v1", api_key="unused", max_retries=0)


@contextmanager
def asking_ollama(nexus):
    """Give a client, and the headers of the answers that it got."""
    headers = []
    client = ollama.Client(nexus.url, event_hooks={"response": [lambda answer: headers.append(answer.headers)]})
    yield client, headers
    client.close()


OLLAMA_ASKED = {
    "chat": {"messages": [{"role": "user", "content": "hello there"}]},
    "generate": {"prompt": "hello there"},
}


def question(**more):
    return {"model": "paid", "messages": [{"role": "user", "content": "hello there"}], **more}


def section(nexus):
    return nexus.get_json("/admin/budget")


def spending(nexus):
    return section(nexus)["current_spending_usd"]


def settled(nexus):
    """Wait until nothing is under way, and return what was spent."""
    until(lambda: section(nexus)["reserved_usd"] == 0)
    return spending(nexus)


def cost_of(usage):
    return (usage.prompt_tokens + usage.completion_tokens) / 1000


def test_an_answer_says_what_it_cost(start):
    nexus = start("monthly_limit_usd = 100.0")

    with client(nexus) as ai:
        answer = ai.chat.completions.with_raw_response.create(**question(max_tokens=5))

    usage = answer.parse().usage
    assert answer.headers["x-nexus-cost-estimated"] == f"{cost_of(usage):.4f}"
    assert "x-nexus-budget-status" not in answer.headers
    assert settled(nexus) == pytest.approx(cost_of(usage))


@pytest.mark.parametrize("call", ["chat", "generate"])
def test_an_answer_of_a_paid_ollama_says_what_it_cost(start, simulate, call):
    paid = simulate(name="laptop", kind="ollama", models=("paid",))
    nexus = start("monthly_limit_usd = 100.0", slow=paid, kind="ollama")

    with asking_ollama(nexus) as (client, headers):
        whole = getattr(client, call)("paid", **OLLAMA_ASKED[call], options={"num_predict": 5})

    counted = (whole.prompt_eval_count + whole.eval_count) / 1000
    assert headers[0]["x-nexus-cost-estimated"] == f"{counted:.4f}"
    assert settled(nexus) == pytest.approx(counted)


@pytest.mark.parametrize("call", ["chat", "generate"])
def test_a_stream_of_a_paid_ollama_begins_with_its_estimate(start, simulate, call):
    paid = simulate(name="laptop", kind="ollama", models=("paid",))
    nexus = start("monthly_limit_usd = 100.0", slow=paid, kind="ollama")

    with asking_ollama(nexus) as (client, headers):
        *_, last = getattr(client, call)("paid", **OLLAMA_ASKED[call], options={"num_predict": 50}, stream=True)

    # Two or three tokens of a prompt, and all that the answer may have.
    assert headers[0]["x-nexus-cost-estimated"] in ("0.0520", "0.0530")
    assert settled(nexus) == pytest.approx((last.prompt_eval_count + last.eval_count) / 1000)


@pytest.mark.parametrize("call", ["chat", "generate"])
@pytest.mark.parametrize("keep_alive", [None, 0])
def test_loading_and_unloading_a_model_of_a_paid_ollama_costs_nothing(start, simulate, call, keep_alive):
    models = ("paid", "glm:cloud")
    paid = simulate(name="laptop", kind="ollama", models=models)
    nexus = start('monthly_limit_usd = 100.0\nhard_limit_action = "block_cloud"', slow=paid, kind="ollama")

    with asking_ollama(nexus) as (client, headers):
        answers = [getattr(client, call)(model, keep_alive=keep_alive) for model in models]

    assert {answer.done_reason for answer in answers} == {"load" if keep_alive is None else "unload"}
    assert [header["x-nexus-cost-estimated"] for header in headers] == ["0.0000", "0.0000"]
    assert settled(nexus) == 0


def test_figures_and_history_say_what_was_spent(start):
    nexus = start("monthly_limit_usd = 100.0")

    with client(nexus) as ai:
        usage = ai.chat.completions.create(**question(max_tokens=5)).usage

    spent = settled(nexus)
    (entry,) = nexus.get_json("/v1/history")
    assert spent == pytest.approx(cost_of(usage))
    assert entry["cost_usd"] == pytest.approx(spent)
    assert nexus.get_json("/v1/stats")["budget"]["current_spending_usd"] == pytest.approx(spent)


@pytest.mark.parametrize("with_usage", [True, False])
def test_a_stream_is_paid_by_its_usage_or_else_by_its_text(start, with_usage):
    nexus = start("monthly_limit_usd = 100.0")
    options = {"stream_options": {"include_usage": True}} if with_usage else {}

    with client(nexus) as ai:
        text = "".join(
            chunk.choices[0].delta.content or ""
            for chunk in ai.chat.completions.create(**question(stream=True, max_tokens=8), **options)
            if chunk.choices
        )

    counted = settled(nexus)
    if with_usage:
        assert counted == pytest.approx(0.01, abs=0.006)
    else:
        assert counted == pytest.approx((-(-len(text.encode()) // 4) + 2) / 1000, abs=0.003)


def test_past_the_soft_limit_answers_say_so(start):
    nexus = start('monthly_limit_usd = 0.05\nsoft_limit_percent = 10\nhard_limit_action = "block_cloud"')

    with client(nexus) as ai:
        ai.chat.completions.create(**question(max_tokens=10))
        settled(nexus)
        answer = ai.chat.completions.with_raw_response.create(**question(max_tokens=10))

    assert answer.headers["x-nexus-budget-status"] == "SoftLimit"
    assert 10 < float(answer.headers["x-nexus-budget-utilization"]) < 100
    assert 0 < float(answer.headers["x-nexus-budget-remaining"]) < 0.05


def test_at_the_hard_limit_the_cloud_is_closed_and_the_house_open(start, simulate):
    house = simulate(name="gpu-1", models=("own",))
    nexus = start(
        'monthly_limit_usd = 0.02\nhard_limit_action = "block_cloud"\nassumed_output_tokens = 10',
        backends=table_of(house, priority=50),
    )

    with client(nexus) as ai:
        while (answer := ask(nexus.url, "/v1/chat/completions", question(max_tokens=10))).status == 200:
            pass
        own = ai.chat.completions.with_raw_response.create(**{**question(), "model": "own"})

    body = answer.json()
    assert (answer.status, body["error"]["code"]) == (503, "rejected_by_policy")
    assert body["context"]["budget_limit_usd"] == 0.02
    assert body["context"]["budget_next_reset_date"].endswith("-01")
    assert body["context"]["rejection_reasons"][0]["reconciler"] == "budget"
    told = ask(nexus.url, "/admin/overview", method="GET").json()["rejections"]
    assert [(kind["by"], kind["code"], kind["requests"]) for kind in told] == [("budget", "rejected_by_policy", 1)]
    assert "budget" in told[0]["reason"]
    assert "x-nexus-cost-estimated" not in own.headers
    assert spending(nexus) <= 0.02


def test_a_batch_is_paid_for_though_it_names_no_model_and_a_file_is_not(start):
    nexus = start('monthly_limit_usd = 0.02\nhard_limit_action = "block_cloud"\nassumed_output_tokens = 100000')

    with client(nexus) as ai:
        file = ai.files.create(file=b"{}", purpose="batch")
        with pytest.raises(openai.InternalServerError) as refused:
            ai.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")

    assert refused.value.code == "rejected_by_policy"
    assert spending(nexus) == 0


def test_of_two_hundred_at_once_a_budget_for_ten_admits_ten(start):
    # Three tokens of a prompt and 18 of an answer: 2.1 cents each.
    nexus = start('monthly_limit_usd = 0.21\nhard_limit_action = "block_cloud"', ttft_s=3.0)

    with ThreadPoolExecutor(200) as threads:
        asked = [threads.submit(ask, nexus.url, "/v1/chat/completions", question(max_tokens=18)) for _ in range(200)]
        statuses = [future.result().status for future in asked]

    assert (statuses.count(200), statuses.count(503)) == (10, 190)


def test_with_two_paid_backends_a_budget_for_ten_still_admits_ten(start, simulate):
    cloud, other = (simulate(name=name, models=("paid",), ttft_s=3.0) for name in ("cloud", "other"))
    nexus = start(
        'monthly_limit_usd = 0.22\nhard_limit_action = "block_cloud"\nallowance_usd = 0.05',
        slow=cloud,
        backends=table_of(other, type="openai", max_in_flight=1000),
    )

    statuses = ask_all_at_once(nexus, [question(max_tokens=18)] * 40)

    assert (statuses.count(200), statuses.count(503)) == (10, 30)
    assert spending(nexus) <= 0.22


def ask_all_at_once(nexus, bodies):
    """Send all of *bodies* within a few milliseconds, and return the statuses of their answers."""
    with ExitStack() as opened:
        connections = [http.client.HTTPConnection("127.0.0.1", nexus.port, timeout=20) for _ in bodies]
        for connection in connections:
            opened.callback(connection.close)
            connection.connect()
        for connection, body in zip(connections, bodies, strict=True):
            connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        answers = [connection.getresponse() for connection in connections]
        for answer in answers:
            answer.read()
        return [answer.status for answer in answers]


def test_a_burst_beyond_the_allowance_waits_for_more(start):
    nexus = start('monthly_limit_usd = 100.0\nhard_limit_action = "block_cloud"\nallowance_usd = 0.03', ttft_s=1.0)

    with ThreadPoolExecutor(40) as threads:
        asked = [threads.submit(ask, nexus.url, "/v1/chat/completions", question(max_tokens=18)) for _ in range(40)]
        statuses = {future.result().status for future in asked}

    assert statuses == {200}


def test_without_a_queue_who_comes_too_early_for_money_is_told_so(start):
    nexus = start(
        'monthly_limit_usd = 100.0\nhard_limit_action = "block_cloud"\nallowance_usd = 0.02',
        routing="[queue]\nenabled = false",
    )

    refused = ask(nexus.url, "/v1/chat/completions", question(max_tokens=50))
    until(lambda: ask(nexus.url, "/v1/chat/completions", question(max_tokens=50)).status == 200)

    error, (reason,) = refused.json()["error"], refused.json()["context"]["rejection_reasons"]
    assert (refused.status, error["code"]) == (503, "overloaded")
    assert "money is being drawn" in error["message"]
    assert (reason["agent_id"], reason["reconciler"]) == ("cloud", "budget")
    assert reason["reason"] == "Its money is being drawn from the budget"
    assert "max_in_flight" not in reason["suggested_action"]


def test_what_was_spent_is_known_after_a_restart(start):
    nexus = start("monthly_limit_usd = 100.0")
    ask(nexus.url, "/v1/chat/completions", question(max_tokens=10))
    before = settled(nexus)
    nexus.stop()

    again = start("monthly_limit_usd = 100.0")

    assert before > 0
    assert spending(again) == before
    assert section(again)["committed_usd"] == pytest.approx(before + section(again)["allowance_usd"])


def test_what_a_killed_process_held_is_not_free_again(start, simulate):
    slow = simulate(name="cloud", models=("paid",), tokens_per_s=5)
    nexus = start('monthly_limit_usd = 0.20\nhard_limit_action = "block_cloud"', slow=slow)
    ask(nexus.url, "/v1/chat/completions", question(max_tokens=2))
    settled(nexus)
    asked = threading.Thread(target=read_a_while, args=(nexus, question(max_tokens=150, stream=True)))
    asked.start()
    until(lambda: section(nexus)["reserved_usd"] > 0.1)
    nexus.send(signal.SIGKILL)
    nexus.process.wait()
    asked.join()

    again = start('monthly_limit_usd = 0.20\nhard_limit_action = "block_cloud"', slow=slow)

    assert ask(again.url, "/v1/chat/completions", question(max_tokens=100)).status == 503
    assert section(again)["committed_usd"] == pytest.approx(0.20)


def test_what_is_under_way_at_the_end_of_the_drain_time_is_paid(start, simulate):
    stuck = simulate(name="cloud", models=("paid",), ttft_s=30.0)
    nexus = start("monthly_limit_usd = 100.0", routing="[server]\ndrain_timeout_seconds = 0.2", slow=stuck)
    asked = threading.Thread(target=read_a_while, args=(nexus, question(max_tokens=100)))
    asked.start()
    until(lambda: section(nexus)["reserved_usd"] > 0.1)

    nexus.stop()
    asked.join()
    again = start("monthly_limit_usd = 100.0", slow=stuck)

    (line,) = nexus.log_lines("exchange_finished")
    assert (line["ending"], line["code"], line["termination"]) == ("shut_down", "draining", "KH")
    # Nobody saw what it came to, and the backend was at work on it.
    assert spending(again) == pytest.approx(line["cost_usd"])
    assert spending(again) > 0.1


def read_a_while(nexus, body):
    # The proxy is killed meanwhile.
    with suppress(OSError, http.client.HTTPException):
        ask(nexus.url, "/v1/chat/completions", body)


def test_two_processes_share_one_budget(start, simulate):
    cloud = simulate(name="cloud", models=("paid",), ttft_s=3.0)
    budget = 'monthly_limit_usd = 0.21\nhard_limit_action = "block_cloud"\nallowance_usd = 0.05'
    first, second = start(budget, slow=cloud), start(budget, slow=cloud)

    with ThreadPoolExecutor(40) as threads:
        asked = [
            threads.submit(ask, nexus.url, "/v1/chat/completions", question(max_tokens=18))
            for _ in range(20)
            for nexus in (first, second)
        ]
        statuses = [future.result().status for future in asked]

    admitted = statuses.count(200)
    assert 8 <= admitted <= 10
    until(lambda: spending(first) == spending(second) > 0)
    assert spending(first) <= 0.21


def test_a_client_that_leaves_pays_for_what_was_produced(start):
    nexus = start("monthly_limit_usd = 100.0", tokens_per_s=20)

    with client(nexus) as ai:
        stream = ai.chat.completions.create(**question(stream=True, max_tokens=1000))
        for number, _ in enumerate(stream):
            if number == 5:
                break
        stream.close()

    assert 0 < settled(nexus) < 0.1


@pytest.mark.parametrize("store", ["", '[store]\nkind = "memory"\n'])
def test_a_limit_that_a_restart_would_forget_is_refused(command, tmp_path, store):
    (tmp_path / "nexus.toml").write_text(f"[plugins.budget]\nmonthly_limit_usd = 1.0\n{store}")

    checked, started = command("check"), command("serve")

    assert (checked.returncode, started.returncode) == (78, 78)
    for told in (checked.stderr, started.stderr):
        assert "nexus.toml: [plugins.budget]: a limit is set, but the store forgets at a restart what was spent" in told
        assert '- at `monthly_limit_usd` (line 2); set kind = "sqlite" in [store]' in told


def test_a_reload_that_sets_a_limit_is_refused_while_the_store_forgets(tmp_path, simulate):
    config = table_of(simulate(), type="openai")
    with run_nexus(tmp_path, config) as nexus:
        nexus.config_file.write_text(config + '[store]\nkind = "sqlite"\n[plugins.budget]\nmonthly_limit_usd = 1.0\n')
        nexus.send(signal.SIGHUP)

        assert "forgets at a restart" in nexus.wait_for_log("config_rejected")[0]["reason"]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (
            'hard_limit_action = "explode"',
            "[plugins.budget]: expected 'warn' or 'block_cloud' or 'block_all', got 'explode' - at `hard_limit_action`",
        ),
        ('hard_limit_action = "block_clud"', "- at `hard_limit_action` (line 2); did you mean 'block_cloud'?"),
        ('prices = [{ model = "x" }]', "a price says none of"),
        ("soft_limit_percent = 0.5", "[plugins.budget]: `soft_limit_percent` is 0.5; give percent"),
        ('prices = [{ model = "x" }]', "- at `prices[0]` (line 2)"),
    ],
)
def test_a_table_that_is_wrong_is_refused_with_what_is_expected(command, tmp_path, table, expected):
    (tmp_path / "nexus.toml").write_text(f"[plugins.budget]\n{table}\n")

    checked, started = command("check"), command("serve")

    assert (checked.returncode, started.returncode) == (78, 78)
    assert expected in checked.stderr
    assert expected in started.stderr


def test_a_stage_that_observes_counts_and_refuses_nothing(start):
    nexus = start('monthly_limit_usd = 0.01\nhard_limit_action = "block_all"', routing='observe = ["budget"]')

    answers = [ask(nexus.url, "/v1/chat/completions", question(max_tokens=10)) for _ in range(3)]

    assert [answer.status for answer in answers] == [200, 200, 200]
    assert all("X-Nexus-Budget-Status" not in answer.headers for answer in answers)
    assert spending(nexus) > 0.01
    assert section(nexus)["allowance_usd"] == 0
    until(lambda: b'nexus_budget_refused_total{reason="hard_limit"}' in ask(nexus.url, "/metrics").body)


def test_a_policy_limits_what_one_request_may_cost(start):
    policy = '\n[[routing.policies]]\nmodel_pattern = "*"\nmax_cost_per_request = 0.05\n'
    nexus = start("", backends=policy)

    dear = ask(nexus.url, "/v1/chat/completions", question(max_tokens=100))
    cheap = ask(nexus.url, "/v1/chat/completions", question(max_tokens=10))

    assert (dear.status, cheap.status) == (503, 200)
    assert "exceeds 0.05 USD" in dear.json()["context"]["rejection_reasons"][0]["reason"]


def test_a_limit_that_changes_at_a_reload_acts_at_once(start):
    nexus = start('monthly_limit_usd = 0.02\nhard_limit_action = "block_cloud"')
    while ask(nexus.url, "/v1/chat/completions", question(max_tokens=10)).status == 200:
        pass

    nexus.config_file.write_text(nexus.config_file.read_text().replace("0.02", "5.0"))
    nexus.send(signal.SIGHUP)
    nexus.wait_for_log("limit_increased")

    until(lambda: ask(nexus.url, "/v1/chat/completions", question(max_tokens=10)).status == 200)


@pytest.mark.parametrize("harm", ["older copy", "emptied", "replaced", "deleted"])
def test_a_ledger_that_is_taken_away_is_noticed_and_closes_what_is_paid(start, simulate, tmp_path, harm):
    house = table_of(simulate(name="house"), priority=90)
    nexus = start('monthly_limit_usd = 100.0\nhard_limit_action = "block_cloud"', backends=house)
    ledger = tmp_path / "nexus.sqlite3"
    older = ledger.read_bytes()
    assert ask(nexus.url, "/v1/chat/completions", chat("paid")).status == 200
    until(lambda: nexus.get_json("/admin/budget")["current_spending_usd"] > 0)
    if harm == "deleted":
        ledger.unlink()
    elif harm == "replaced":
        (tmp_path / "other").write_bytes(older)
        (tmp_path / "other").replace(ledger)
    else:
        with ledger.open("r+b") as file:
            file.truncate(0)
            file.write(older if harm == "older copy" else b"")

    (line,) = nexus.wait_for_log("store_failed")

    assert str(ledger) in line["reason"]
    detail = nexus.get_json("/ready")["detail"]
    assert detail["store_failure"] == line["reason"]
    assert detail["on_store_failure"]["budget"] == "refuse"
    assert b"\nnexus_store_failed 1\n" in ask(nexus.url, "/metrics").body
    assert float(nexus.wait_for_log("ledger_unreachable")[0]["spent_usd"]) > 0
    assert ask(nexus.url, "/v1/chat/completions", chat("paid")).status == 503
    assert ask(nexus.url, "/v1/chat/completions", chat("llama3")).status == 200
