"""``nexus-proxy plugins check``: checks that an installed plugin keeps the contract of plugins."""

import importlib.util
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import click

from nexus.cli.arguments.options import Chosen, configuration
from nexus.cli.output.printing import json_option, print_json
from nexus.config.schema import LoggingConfig
from nexus.errors import StartError
from nexus.observability.logging import logs


@click.command("check")
@configuration
@click.argument("dist")
@json_option
def command(chosen: Chosen, *, dist: str, as_json: bool) -> None:
    """Check the plugins of the distribution DIST, or the plugin of that name, and print a line for each check.

    Its stages are run over hundreds of made-up requests, with its defaults or with the table that the configuration
    has for it; nothing is started. The exit code is 1 if any check fails. Needs hypothesis.
    """
    if importlib.util.find_spec("hypothesis") is None:
        raise StartError("the contract of stages needs hypothesis; pip install hypothesis")
    loaded = chosen.load_quietly()
    # Warnings of its stages are about made-up requests.
    logs.configure(LoggingConfig(level="error", format="pretty"))
    outcomes: Counter[str] = Counter()
    found = []
    with _nothing_left_behind():
        from nexus.testing.plugin_check import check_plugin

        for finding in check_plugin(dist, loaded.config.plugins, chosen.plugin_files):
            outcomes[finding.outcome] += 1
            if as_json:
                found.append(finding._asdict())
            else:
                detail = f" - {finding.detail}" if finding.detail else ""
                click.echo(f"{finding.outcome:<6}  {finding.what}{detail}")
    if as_json:
        print_json({"findings": found, "passed": not outcomes["failed"]})
    else:
        click.echo(", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()))
    if outcomes["failed"]:
        raise click.exceptions.Exit(1)


@contextmanager
def _nothing_left_behind() -> Iterator[None]:
    """Keep hypothesis from writing to the working directory, and from minimising examples, which takes a while."""
    from hypothesis import Phase, settings
    from hypothesis.configuration import set_hypothesis_home_dir

    with tempfile.TemporaryDirectory() as folder:
        set_hypothesis_home_dir(folder)
        settings.register_profile("nexus-proxy", database=None, print_blob=False, phases=[Phase.generate])
        settings.load_profile("nexus-proxy")
        yield
