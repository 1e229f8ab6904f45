"""The table of models names the backends of each, and those that have it in memory."""

from nexus.cli.commands.models import rows_of

MODEL = {
    "name": "llama3",
    "context_length": 8192,
    "supports_vision": None,
    "supports_tools": True,
    "supports_json_mode": None,
    "supports_embeddings": False,
}


def test_a_model_names_the_backends_that_have_it_in_memory():
    backends = [
        {"name": name, "models": [MODEL | {"memory": memory}]}
        for name, memory in (("mac-1", "in memory"), ("mac-2", "not in memory"), ("gpu", "unknown"))
    ]

    (row,) = rows_of(backends)

    assert (row.backends, row.in_memory) == (["mac-1", "mac-2", "gpu"], ["mac-1"])
    assert (row.context_length, row.capabilities) == (8192, ["tools"])
