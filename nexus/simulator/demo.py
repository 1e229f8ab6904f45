"""A demonstration fleet of three servers of different kinds, with shared models and realistic speeds."""

from nexus.simulator.server import Simulator
from nexus.simulator.settings import Settings, SimulatedModel

LLAMA = SimulatedModel("llama3", 8192, ("completion", "tools"))
QWEN = SimulatedModel("qwen3", 32768, ("completion", "tools", "thinking"))
LLAVA = SimulatedModel("llava", 4096, ("completion", "vision"))
EMBEDDER = SimulatedModel("nomic-embed-text", 2048, ("embedding",))


def demo_fleet() -> tuple[Simulator, Simulator, Simulator]:
    """Return a laptop with Ollama, a GPU server with vLLM and a workstation with llama.cpp, none of them started."""
    return (
        Simulator(
            Settings(
                name="laptop",
                kind="ollama",
                models=(LLAMA, LLAVA, EMBEDDER),
                ttft_s=0.25,
                tokens_per_s=25,
                answer_tokens=40,
                concurrency=2,
            )
        ),
        Simulator(
            Settings(
                name="gpu-server",
                kind="vllm",
                models=(LLAMA, QWEN),
                ttft_s=0.08,
                tokens_per_s=70,
                answer_tokens=40,
                concurrency=32,
            )
        ),
        Simulator(
            Settings(
                name="workstation",
                kind="llamacpp",
                models=(QWEN,),
                ttft_s=0.4,
                tokens_per_s=15,
                answer_tokens=40,
                concurrency=4,
            )
        ),
    )
