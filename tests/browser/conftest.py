"""The dashboard of a running proxy in a real browser, with simulated servers and load."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import openai
import pytest
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

from nexus.simulator import Settings, Simulator, in_thread
from nexus.testing.fleets import table_of
from tests.support.process import NexusProcess, run_nexus

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIETLY = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"

CONFIG = """
[health_check]
interval_seconds = 2.0
"""


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="session")
def browser(playwright) -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    browser = playwright.chromium.launch(executable_path=path, args=list(QUIETLY))
    yield browser
    browser.close()


@pytest.fixture
def open_page(browser):
    """Return a function that opens a URL in a new window: ``open_page(url, width=320, color_scheme="dark")``.

    Errors that the page reports fail the test, unless ``errors_are_expected``.
    """
    contexts, errors = [], []

    def open_(url, *, width=1280, height=900, errors_are_expected=False, until="load", **context) -> Page:
        made = browser.new_context(viewport={"width": width, "height": height}, **context)
        contexts.append(made)
        page = made.new_page()
        if not errors_are_expected:
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto(url, wait_until=until)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def picture():
    """Return a function that saves a screenshot of a page under the ignored ``build/``."""

    def take(page: Page, name: str, *, full_page: bool = True) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=full_page)

    return take


class Load:
    """Sends streamed requests in a few threads for the duration of the context."""

    def __init__(self, url: str, models: tuple[str, ...], threads: int = 2) -> None:
        self._client = openai.OpenAI(base_url=f"{url}/v1", api_key="sk-any", max_retries=0)
        self._models = models
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def ask(self, model: str, *, stream: bool = True) -> None:
        """Send one request, and ignore an error response."""
        messages = [{"role": "user", "content": "hello"}]
        try:
            answer = self._client.chat.completions.create(model=model, messages=messages, stream=stream)
            for _ in answer if stream else ():
                pass
        except openai.OpenAIError:
            return

    def _run(self, number: int) -> None:
        while not self._stopping.wait(0.05):
            self.ask(self._models[number % len(self._models)])
            number += 1


@contextmanager
def started(folder: Path, *simulators: Simulator, config: str = CONFIG, backends: str = "", **environ: str):
    """Start a proxy in front of running *simulators*."""
    tables = "".join(table_of(simulator) for simulator in simulators)
    with run_nexus(folder, config + tables + backends, environ=environ) as nexus:
        yield nexus


@pytest.fixture(scope="session")
def fleet():
    """Return a context manager that starts a proxy in front of running simulators: ``fleet(tmp_path, simulator)``."""
    return started


@pytest.fixture(scope="session")
def simulators() -> Iterator[tuple[Simulator, ...]]:
    made = (
        Simulator(Settings(name="gpu-1", kind="vllm", models=("llama3", "qwen3"), ttft_s=0.05, tokens_per_s=200.0)),
        Simulator(Settings(name="gpu-2", kind="vllm", models=("llama3",), ttft_s=0.1, tokens_per_s=100.0)),
        Simulator(Settings(name="laptop", kind="ollama", models=("gemma", "nomic-embed-text"))),
    )
    with in_thread(*made):
        yield made


@pytest.fixture(scope="session")
def nexus(simulators, tmp_path_factory) -> Iterator[NexusProcess]:
    """A proxy in front of three servers, and a fourth that is down."""
    down = '\n[[backends]]\nname = "attic"\nurl = "http://127.0.0.1:9"\ntype = "vllm"\nzone = "open"\ntier = 4\n'
    with started(tmp_path_factory.mktemp("nexus"), *simulators, backends=down) as running:
        yield running


@pytest.fixture
def load(nexus) -> Iterator[Load]:
    """Traffic for as long as the test lasts."""
    with Load(nexus.url, ("llama3", "qwen3", "gemma")) as running:
        yield running
