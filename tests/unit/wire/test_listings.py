"""Lists of models, merged over the fleet, also as read by client libraries."""

import json
from datetime import UTC, datetime

import anthropic.types
import openai.types
import pytest

from nexus.domain.backend import Status
from nexus.domain.model import ModelFacts
from nexus.domain.naming import Naming
from nexus.domain.routes import PageRequest
from nexus.errors import RequestError
from nexus.testing.builders import make_backend, make_fleet
from nexus.wire import catalogue
from nexus.wire.listings import LISTINGS

ALIASES = {"gpt-4": ("llama3", "qwen"), "far": ("gpt-4",), "nowhere": ("gone",), "qwen": ("llama3",)}
NAMING = Naming(ALIASES)


@pytest.fixture
def fleet():
    small = ModelFacts(name="llama3", context_length=8192, tools=True, vision=False, created=1_700_000_500)
    large = ModelFacts(name="llama3", context_length=32_768, vision=True, created=1_700_000_900)
    embedder = ModelFacts(name="org/embed", embeddings=True, vision=False)
    return make_fleet(
        make_backend("gpu-1", models=[small, embedder]),
        make_backend("gpu-2", models=[large, "qwen"]),
        make_backend(
            "gpu-3",
            models=[ModelFacts(name="llama3", context_length=99, created=5), "gone"],
            status=Status.UNHEALTHY,
            is_refusing=True,
        ),
        make_backend("mac", kind="ollama", models=["phi:latest"], spellings={"phi": "phi:latest"}),
    )


def asked(path, fleet, *, method="GET", body=b"", is_anthropic=False, naming=NAMING):
    listing = next(
        each for each in LISTINGS if path == each.path or (each.path.endswith("/") and path.startswith(each.path))
    )
    assert method in listing.methods
    request = PageRequest(method=method, path=path, body=body, is_anthropic=is_anthropic)
    page = listing.respond(request, fleet, naming)
    assert (page.status, page.content_type) == (200, "application/json")
    return json.loads(page.body)


def test_a_name_on_several_backends_has_one_row(fleet):
    names = [row["id"] for row in asked("/v1/models", fleet)["data"]]

    assert names == ["far", "gpt-4", "llama3", "org/embed", "phi:latest", "qwen"]


@pytest.mark.parametrize(
    ("others", "ollamas", "listed"),
    [
        (["m"], ["m:latest"], {"m": ["gpu-1", "mac"]}),
        (["M"], ["m:latest"], {"M": ["gpu-1", "mac"]}),
        (["m"], ["m:latest", "m:8b"], {"m": ["gpu-1", "mac"], "m:8b": ["mac"]}),
        # These are two models.
        (["m"], ["m", "m:latest"], {"m": ["gpu-1", "mac"], "m:latest": ["mac"]}),
        # Neither name finds both models.
        (["m:latest"], ["m:8b"], {"m:8b": ["mac"], "m:latest": ["gpu-1"]}),
        ([], ["m:latest"], {"m:latest": ["mac"]}),
    ],
)
def test_spellings_of_one_model_on_several_servers_have_one_row(others, ollamas, listed):
    fleet = make_fleet(make_backend("gpu-1", models=others), make_backend("mac", kind="ollama", models=ollamas))

    for path, rows, name in (("/v1/models", "data", "id"), ("/api/tags", "models", "name")):
        assert [row[name] for row in asked(path, fleet)[rows]] == list(listed)
    assert {row["id"]: row["backends"] for row in asked("/v1/models", fleet)["data"]} == listed


def test_a_model_stays_listed_as_it_is_when_the_other_server_is_unhealthy():
    gone = make_backend("gpu-1", models=["m"], status=Status.UNHEALTHY, is_refusing=True)
    fleet = make_fleet(gone, make_backend("mac", kind="ollama", models=["m:latest"]))

    assert [(row["id"], row["backends"]) for row in asked("/v1/models", fleet)["data"]] == [("m", ["mac"])]
    assert asked("/v1/models/m:latest", fleet)["backends"] == ["mac"]


def test_a_row_has_the_capabilities_of_its_healthy_backends(fleet):
    assert asked("/v1/models/llama3", fleet) == {
        "id": "llama3",
        "object": "model",
        "created": 5,
        "owned_by": "nexus",
        "context_length": 32_768,
        "capabilities": {"vision": True, "tools": True, "json_mode": None, "embeddings": None},
        "backends": ["gpu-1", "gpu-2"],
    }


def test_an_alias_stands_for_all_its_models(fleet):
    rows = {row["id"]: row for row in asked("/v1/models", fleet)["data"]}

    assert rows["gpt-4"]["backends"] == rows["far"]["backends"] == ["gpu-1", "gpu-2"]
    assert rows["qwen"]["backends"] == ["gpu-2"], "a real model wins over an alias of its name"


def test_created_does_not_change_with_time_or_health(fleet):
    healthy = make_fleet(make_backend("gpu-1", models=["m"]))

    assert asked("/v1/models/m", healthy)["created"] == asked("/v1/models/m", healthy)["created"] == 1_700_000_000


@pytest.mark.parametrize("path", ["/v1/models/org/embed", "/v1/models/org%2Fembed"])
def test_a_name_may_have_a_slash_in_it(path, fleet):
    assert asked(path, fleet)["id"] == "org/embed"


def test_a_model_is_found_under_its_other_spellings(fleet):
    assert asked("/v1/models/phi", fleet)["backends"] == ["mac"]


@pytest.mark.parametrize("is_anthropic", [True, False])
@pytest.mark.parametrize("name", ["nope", "gone", "nowhere", "%ff", ""])
def test_a_model_without_a_healthy_backend_is_not_found(name, is_anthropic, fleet):
    with pytest.raises(RequestError) as refused:
        asked(f"/v1/models/{name}", fleet, is_anthropic=is_anthropic)

    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")


def test_a_long_name_is_not_repeated_whole(fleet):
    with pytest.raises(RequestError) as refused:
        asked("/v1/models/" + "x" * 5000, fleet)

    assert len(refused.value.message) < 400


@pytest.mark.parametrize("is_anthropic", [True, False])
def test_an_empty_fleet_lists_nothing(is_anthropic):
    assert asked("/v1/models", make_fleet(), is_anthropic=is_anthropic)["data"] == []


def test_openai_s_library_reads_its_listing(fleet, openai_client):
    body = json.dumps(asked("/v1/models", fleet)).encode()

    models = list(openai_client(body, content_type="application/json").models.list())

    assert [openai.types.Model.model_validate(model.model_dump(), strict=True).id for model in models][2] == "llama3"


def test_anthropic_s_library_reads_its_listing(fleet, anthropic_client):
    listing = asked("/v1/models", fleet, is_anthropic=True)

    models = list(anthropic_client(json.dumps(listing).encode(), content_type="application/json").models.list())

    assert [anthropic.types.ModelInfo.model_validate_json(json.dumps(card)).id for card in listing["data"]] == [
        model.id for model in models
    ]
    assert (listing["first_id"], listing["last_id"], listing["has_more"]) == ("far", "qwen", False)
    assert models[2].created_at == datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC)


def test_anthropic_s_library_reads_one_model(fleet):
    card = asked("/v1/models/llama3", fleet, is_anthropic=True)

    assert anthropic.types.ModelInfo.model_validate_json(json.dumps(card)).max_input_tokens == 32_768


def test_ollama_s_library_reads_its_listings(fleet, ollama_client):
    tags, running = (json.dumps(asked(path, fleet)).encode() for path in ("/api/tags", "/api/ps"))

    listed = ollama_client(tags, content_type="application/json").list().models
    loaded = ollama_client(running, content_type="application/json").ps().models

    assert [m.model for m in listed] == [m.model for m in loaded]
    assert listed[2].modified_at == datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC)
    assert loaded[2].context_length == 32_768
    assert len({m.digest for m in listed}) == len(listed)


@pytest.mark.parametrize("key", ["model", "name"])
def test_ollama_s_library_reads_one_model(key, fleet, ollama_client):
    shown = asked("/api/show", fleet, method="POST", body=json.dumps({key: "llama3"}).encode())

    model = ollama_client(json.dumps(shown).encode(), content_type="application/json").show("llama3")

    assert model.capabilities == ["completion", "vision", "tools"]
    assert model.modelinfo[f"{model.modelinfo['general.architecture']}.context_length"] == 32_768


def test_an_embedding_model_does_not_complete(fleet):
    assert asked("/api/show", fleet, method="POST", body=b'{"model":"org/embed"}')["capabilities"] == ["embedding"]


def test_an_embedding_model_that_calls_tools_completes_too():
    fleet = make_fleet(make_backend("mac", models=[ModelFacts(name="llama3", embeddings=True, tools=True)]))

    shown = asked("/api/show", fleet, method="POST", body=b'{"model":"llama3"}')

    assert shown["capabilities"] == ["embedding", "completion", "tools"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"[]", "invalid_json"),
        (b'{"model":5}', "invalid_json"),
        (b"{}", "invalid_value"),
        (b'{"model":"nope"}', "model_not_found"),
    ],
)
def test_ollama_show_refuses_an_invalid_request(body, code, fleet):
    with pytest.raises(RequestError) as refused:
        asked("/api/show", fleet, method="POST", body=body)

    assert refused.value.code == code


def test_ollama_s_version_is_one_that_clients_can_compare(fleet):
    assert [int(part) for part in asked("/api/version", fleet)["version"].split(".")] >= [0, 30, 0]


@pytest.mark.parametrize("status", [Status.UNHEALTHY, Status.LOADING])
def test_a_model_that_is_only_a_last_resort_is_listed(status):
    fleet = make_fleet(make_backend("gpu-1", models=["m"], status=status), make_backend("gpu-2", models=["other"]))

    assert [row.name for row in catalogue.entries(fleet, Naming())] == ["m", "other"]
    assert catalogue.entries(fleet, Naming())[0].backends == ("gpu-1",)


NEAR = make_fleet(make_backend("mac", kind="ollama", models=["llama3.2:3b", "phi4:14b"]))


@pytest.mark.parametrize(
    ("path", "method", "body"),
    [("/v1/models/lama3.2", "GET", b""), ("/api/show", "POST", b'{"model":"lama3.2"}')],
)
def test_a_model_that_is_not_found_gets_suggestions(path, method, body):
    with pytest.raises(RequestError, match=r"Did you mean 'llama3\.2:3b'") as refused:
        asked(path, NEAR, method=method, body=body)

    assert refused.value.context == {"did_you_mean": ("llama3.2:3b",)}


@pytest.mark.parametrize(
    ("path", "method", "body"),
    [("/v1/models/llama3.2", "GET", b""), ("/api/show", "POST", b'{"model":"llama3.2"}')],
)
def test_a_tag_that_is_loose_in_routing_is_loose_when_a_model_is_looked_up(path, method, body):
    assert asked(path, NEAR, method=method, body=body, naming=Naming(loose_tags=True))


def test_names_that_stand_for_others_by_a_loose_tag_are_not_listed():
    names = [row["id"] for row in asked("/v1/models", NEAR, naming=Naming(loose_tags=True))["data"]]

    assert names == ["llama3.2:3b", "phi4:14b"]
