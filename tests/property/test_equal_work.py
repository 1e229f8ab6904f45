"""The schedule before simulated engines, on a virtual clock: equals get equal work, slow ones less, none is starved."""

import pytest

from tests.support.simulated_fleet import Engine, Job, SimulatedFleet, mixed_jobs

MODELS = ("llama3", "qwen3")
BEGIN = 1000.0


def run(engines, *, clients=None, per_s=None, seconds=400.0, strategy="smart", seed=1, streams=0.7):
    """Return the fleet after so many seconds of requests of all sizes for two models."""
    fleet = SimulatedFleet(engines, strategy=strategy, seed=seed, models=MODELS)
    jobs = mixed_jobs(seed, models=MODELS, streams=streams)
    if clients is not None:
        fleet.closed_loop(jobs, clients=clients, until=BEGIN + seconds)
    else:
        fleet.open_loop(jobs, per_s=per_s, until=BEGIN + seconds)
    fleet.run(BEGIN + seconds + 500.0)
    return fleet


def equal(number, **fields):
    return {f"gpu-{n}": Engine(**fields) for n in range(number)}


def busiest(counts, engines):
    """Return the share of the busiest engine, relative to the mean."""
    return max(counts[name] for name in engines) / (sum(counts.values()) / len(engines))


@pytest.mark.parametrize("strategy", ["smart", "least_loaded"])
@pytest.mark.parametrize("number", range(2, 9))
@pytest.mark.parametrize(
    ("load", "seconds"),
    [({"clients": 1}, 12000.0), ({"clients": 1.0}, 2000.0), ({"clients": 4.0}, 400.0), ({"per_s": 1.0}, 600.0)],
    ids=["one client", "a client for each", "four clients for each", "arrivals at random"],
)
def test_equal_engines_get_equal_requests_and_tokens(strategy, number, load, seconds):
    (kind, amount), engines = *load.items(), equal(number)
    amount = amount * number if isinstance(amount, float) else amount

    fleet = run(engines, seconds=seconds, strategy=strategy, **{kind: int(amount) if kind == "clients" else amount})

    assert busiest(fleet.requests, engines) <= 1.15
    assert busiest(fleet.tokens, engines) <= 1.15


@pytest.mark.parametrize("streams", [0.0, 1.0], ids=["whole answers", "streams"])
def test_so_they_do_whatever_the_form_of_the_answers(streams):
    engines = equal(4)

    fleet = run(engines, clients=16, streams=streams)

    assert busiest(fleet.requests, engines) <= 1.15
    assert busiest(fleet.tokens, engines) <= 1.15


@pytest.mark.parametrize("number", [2, 4, 8])
@pytest.mark.parametrize("reports", [True, False], ids=["that report what waits", "of which capacity is learned"])
def test_saturated_engines_stay_equal_whatever_is_guessed_of_their_capacity(number, reports):
    engines = equal(number, slots=4, reports=reports)

    fleet = run(engines, clients=12 * number, streams=1.0)

    assert busiest(fleet.requests, engines) <= 1.15
    assert busiest(fleet.tokens, engines) <= 1.15


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("number", [2, 4])
@pytest.mark.parametrize("clients", [2, 8])
def test_an_engine_that_is_half_as_fast_gets_about_half_of_the_work(number, clients, seed):
    engines = {"slow": Engine(speed=0.5), **equal(number - 1)}

    fleet = run(engines, clients=clients * number, seconds=900.0, seed=seed)

    mean_of_others = (sum(fleet.tokens.values()) - fleet.tokens["slow"]) / (number - 1)
    assert 0.4 <= fleet.tokens["slow"] / mean_of_others <= 0.6


def test_an_engine_that_other_clients_use_gets_less_if_it_says_so():
    engines = equal(3, slots=8, reports=True)
    fleet = SimulatedFleet(engines, models=MODELS)
    fleet.occupy("gpu-0", 6)

    fleet.closed_loop(mixed_jobs(1, models=MODELS), clients=12, until=BEGIN + 300.0)
    fleet.run(BEGIN + 300.0)

    others = (fleet.requests["gpu-1"] + fleet.requests["gpu-2"]) / 2
    assert fleet.requests["gpu-0"] < 0.4 * others


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_an_engine_that_recovers_is_neither_starved_nor_flooded(seed):
    engines = equal(4)
    fleet = SimulatedFleet(engines, models=MODELS, seed=seed)
    engines["gpu-0"].speed = 0.05
    fleet.closed_loop(mixed_jobs(seed, models=MODELS), clients=16, until=BEGIN + 900.0)
    fleet.run(BEGIN + 300.0)
    engines["gpu-0"].speed = 1.0
    fleet.run(BEGIN + 900.0)

    def shares(first_s, last_s):
        sent = [name for at, name in fleet.sent if BEGIN + first_s <= at < BEGIN + last_s]
        return sent.count("gpu-0") / (len(sent) / len(engines))

    assert shares(100, 300) < 0.3
    assert 0.8 < shares(480, 900) < 1.2
    assert max(shares(since, since + 30) for since in range(300, 900, 30)) < 1.7


def test_the_same_seed_gives_the_same_run():
    assert run(equal(3), clients=6, seconds=60.0).sent == run(equal(3), clients=6, seconds=60.0).sent


def test_all_that_was_counted_is_given_back():
    fleet = run(equal(3), clients=12, seconds=60.0)

    assert fleet.in_flight() == (0, 0, 0)


def test_requests_of_one_model_say_nothing_of_another():
    """A model that is slow on one engine only moves no request for the other model away."""
    engines = equal(2)
    fleet = SimulatedFleet(engines, models=MODELS)
    for n in range(20):
        fleet.send(Job("qwen3", 8000 if n % 2 else 20, 50))
        fleet.run(BEGIN + 10.0 * (n + 1))
    before = fleet.requests.copy()

    fleet.closed_loop(mixed_jobs(1), clients=1, until=BEGIN + 800.0)
    fleet.run(BEGIN + 800.0)

    counts = fleet.requests - before
    assert busiest(counts, engines) <= 1.15
