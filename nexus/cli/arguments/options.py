"""The options of every command that reads the configuration."""

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from click.core import ParameterSource

from nexus.app.composition.loading import Choice
from nexus.config.loading import LoadedConfig
from nexus.config.schema import LoggingConfig
from nexus.observability.logging import logs

T = TypeVar("T")

LEVELS: Final = click.Choice(["debug", "info", "warning", "error"], case_sensitive=False)
FORMATS: Final = click.Choice(["auto", "pretty", "json"], case_sensitive=False)

KEYS: Final[Mapping[str, str]] = {
    "port": "server.port",
    "host": "server.host",
    "workers": "server.workers",
    "log_level": "logging.level",
    "log_format": "logging.format",
    "discovery": "discovery.enabled",
    "health_check": "health_check.enabled",
    "disable_plugin": "plugin_loading.disabled",
}
"""The key that each option sets when it is given."""


class OrVariable(click.Option):
    """A flag that a variable may set too; an error about the variable's value names the variable."""

    def consume_value(self, ctx: click.Context, opts: Mapping[str, Any]) -> tuple[Any, ParameterSource]:
        value, source = super().consume_value(ctx, opts)
        if source is ParameterSource.ENVIRONMENT:
            try:
                value = click.BOOL.convert(value, None, None)
            except click.BadParameter as exc:
                raise click.BadParameter(exc.message, ctx, self, param_hint=str(self.envvar)) from exc
        return value, source


class Count(click.ParamType[int | str]):
    """A number of processes, or ``auto``."""

    name = "count"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        if value == "auto":
            return "auto"
        if not str(value).isdecimal() or not 1 <= int(value) <= 128:
            self.fail(f"expected 1 to 128, or auto, got '{value}'", param, ctx)
        return int(value)


_OPTIONS: Final = (
    click.option(
        "-c",
        "--config",
        metavar="FILE",
        type=click.Path(path_type=Path, readable=False),
        help="The file; else nexus.toml, if it exists.",
    ),
    click.option("-p", "--port", type=click.IntRange(1, 65535), help="The port to listen on."),
    click.option("-H", "--host", help="The address to listen on."),
    click.option("-w", "--workers", metavar="N", type=Count(), help="How many processes serve, or auto: one per core."),
    click.option("-l", "--log-level", type=LEVELS, help="The lowest level that is logged."),
    click.option("--log-format", type=FORMATS, help="How log lines look."),
    click.option(
        "--insecure",
        cls=OrVariable,
        is_flag=True,
        envvar="NEXUS_INSECURE",
        help="Accept requests from other machines without a key.",
    ),
    click.option("--no-discovery", "discovery", flag_value=False, default=None, help="Do not discover servers."),
    click.option("--no-health-check", "health_check", flag_value=False, default=None, help="Do not probe backends."),
    click.option(
        "--plugin",
        "plugin_files",
        metavar="FILE",
        multiple=True,
        type=click.Path(path_type=Path),
        help="Load a plugin from a Python file; may be repeated.",
    ),
    click.option(
        "--disable-plugin",
        metavar="NAME",
        multiple=True,
        help="Leave out an installed plugin, instead of those that the configuration disables; may be repeated.",
    ),
    click.option(
        "--set",
        "settings",
        metavar="KEY=VALUE",
        multiple=True,
        help="Set any key, such as queue.max_size=10; may be repeated.",
    ),
)


class Chosen(Choice, frozen=True, kw_only=True):
    """The configuration that the command line chooses."""

    def load_quietly(self) -> LoadedConfig:
        """Load it for a command that prints its own output: only warnings are logged, to standard error."""
        logs.configure(LoggingConfig(level="warning", format="pretty"))
        loaded = self.load()
        warn(loaded.warnings)
        return loaded


def warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        click.echo(f"nexus-proxy: warning: {warning}", err=True)


def configuration(command: Callable[..., T]) -> Callable[..., T]:
    """Add the options to *command*, which gets them as a :class:`Chosen`, its first argument."""

    @wraps(command)
    def with_chosen(**given: Any) -> T:
        return command(chosen(given), **given)

    for option in reversed(_OPTIONS):
        with_chosen = option(with_chosen)
    return with_chosen


def chosen(given: dict[str, Any]) -> Chosen:
    """Remove the shared options from *given* and return what they choose."""
    shared = {name: given.pop(name) for name in (*KEYS, "config", "insecure", "plugin_files", "settings")}
    return _chosen(**shared)


@click.command(add_help_option=False)
@configuration
def only_options(chosen: Chosen) -> Chosen:
    """Return what the options before the command of a plugin choose."""
    return chosen


def _chosen(
    *, config: Path | None, insecure: bool, plugin_files: tuple[Path, ...], settings: tuple[str, ...], **options: Any
) -> Chosen:
    overrides: dict[str, object] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise click.BadParameter(f"'{setting}' has no value; write KEY=VALUE", param_hint="--set")
        overrides[key.strip()] = value
    overrides |= {KEYS[name]: value for name, value in options.items() if value not in {None, ()}}
    return Chosen(path=config, overrides=overrides, insecure=insecure, plugin_files=plugin_files)
