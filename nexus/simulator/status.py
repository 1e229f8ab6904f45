"""Endpoints that identify a server: health, version and properties."""

import asyncio
from typing import Any, Final

from nexus.simulator.call import Call
from nexus.simulator.messages import Answer, json_answer
from nexus.simulator.openai_tasks import model_row
from nexus.simulator.settings import SimulatedModel

VLLM_VERSION: Final = "0.32.0"
LLAMACPP_BUILD: Final = "b11434-simulated"
SGLANG_VERSION: Final = "0.5.23"
SGLANG_HEALTH_S: Final = 1.0


async def empty_health(call: Call) -> Answer:
    del call
    return Answer(b"")


async def ok_health(call: Call) -> Answer:
    del call
    return json_answer({"status": "ok"})


async def sglang_health(call: Call) -> Answer:
    """Answer late and generate a token, as SGLang does."""
    await asyncio.sleep(SGLANG_HEALTH_S)
    call.engine.generated_tokens += 1
    return Answer(b"")


async def vllm_version(call: Call) -> Answer:
    del call
    return json_answer({"version": VLLM_VERSION})


async def props(call: Call) -> Answer:
    model = call.settings.catalogue[0]
    if not call.answers_to_any_model:
        dummy = {"model_alias": "llama-server", "model_path": "none", "default_generation_settings": {"n_ctx": 0}}
        return json_answer({"role": "router", "max_instances": call.settings.max_loaded or 4, **dummy})
    return json_answer(
        {
            "default_generation_settings": {"n_ctx": model.context_length},
            "total_slots": call.settings.concurrency,
            "model_alias": ",".join((model.name, *model.aliases)),
            "model_path": f"/models/{model.name}.gguf",
            "modalities": {"vision": "vision" in model.capabilities, "audio": False},
            "chat_template_caps": {"supports_tools": "tools" in model.capabilities},
            "build_info": LLAMACPP_BUILD,
            "is_sleeping": False,
        }
    )


async def llamacpp_models(call: Call) -> Answer:
    rows = []
    for position, model in enumerate(call.settings.catalogue):
        rows.append({**model_row(call, position), **_llamacpp_row(call, model), "aliases": list(model.aliases)})
    likewise = [{"name": model.name, "model": model.name, "type": "model"} for model in call.settings.catalogue]
    return json_answer({"object": "list", "data": rows, "models": likewise})


def _llamacpp_row(call: Call, model: SimulatedModel) -> dict[str, Any]:
    if model.status:
        # The router shows only the arguments of the server that it started for the model.
        memory, status = call.engine.memory, model.status
        if call.settings.load_time_s(model):
            status = "loading" if memory.loading == model.name else "unloaded"
            status = "loaded" if model.name in memory.loaded else status
        return {"status": {"value": status, "args": ["llama-server", "--ctx-size", str(model.context_length)]}}
    meta = {"n_ctx": model.context_length, "n_ctx_train": model.context_length, "n_params": 8_000_000_000}
    modalities = ["text", "image"] if "vision" in model.capabilities else ["text"]
    return {"architecture": {"input_modalities": modalities}, "meta": meta}


async def sglang_model(call: Call) -> Answer:
    model = call.settings.catalogue[0]
    return json_answer(
        {
            "model_path": model.name,
            "served_model_name": model.name,
            "is_generation": "completion" in model.capabilities,
            "has_image_understanding": "vision" in model.capabilities,
            "weight_version": "default",
        }
    )


async def sglang_server(call: Call) -> Answer:
    return json_answer({"version": SGLANG_VERSION, "max_running_requests": call.settings.concurrency})


async def lmstudio_models(call: Call) -> Answer:
    rows = []
    loaded = call.engine.memory.loaded
    for model in call.settings.catalogue:
        config = {"context_length": model.context_length, "parallel": call.settings.concurrency}
        rows.append(
            {
                "type": "llm" if "completion" in model.capabilities else "embedding",
                "key": model.name,
                "loaded_instances": [{"id": model.name, "config": config}] if model.name in loaded else [],
                "max_context_length": model.context_length,
                "capabilities": {
                    "vision": "vision" in model.capabilities,
                    "trained_for_tool_use": "tools" in model.capabilities,
                },
            }
        )
    return json_answer({"models": rows})


async def old_lmstudio_models(call: Call) -> Answer:
    rows: list[dict[str, Any]] = []
    for model in call.settings.catalogue:
        chat_type = "vlm" if "vision" in model.capabilities else "llm"
        kind = chat_type if "completion" in model.capabilities else "embeddings"
        state = "loaded" if model.name in call.engine.memory.loaded else "not-loaded"
        head = {"id": model.name, "object": "model", "type": kind, "state": state}
        rows.append(head | {"max_context_length": model.context_length})
    return json_answer({"object": "list", "data": rows})
