"""The demo's fleet of simulated servers."""

from nexus.simulator import demo_fleet


async def test_the_demo_fleet_is_of_three_kinds_with_models_in_common():
    fleet = demo_fleet()
    models = [{model.name for model in simulator.settings.catalogue} for simulator in fleet]

    for simulator in fleet:
        await simulator.start()
    ports = {simulator.port for simulator in fleet}
    for simulator in fleet:
        await simulator.stop()

    assert {simulator.settings.kind for simulator in fleet} == {"ollama", "vllm", "llamacpp"}
    assert models[0] & models[1]
    assert models[1] & models[2]
    assert len(ports) == 3
