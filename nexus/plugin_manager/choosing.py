"""Which of the plugins found are loaded, decided before any of them is imported."""

from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path

import structlog
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from nexus import __version__
from nexus.config.schema import PluginLoadingConfig
from nexus.errors import ConfigError, PluginError, did_you_mean
from nexus.plugin_manager.finding import Candidate

log = structlog.get_logger("nexus.plugins")

DISTRIBUTION = "nexus-proxy"


def choose(
    found: Sequence[Candidate], loading: PluginLoadingConfig, tables: Collection[str], *, file: str
) -> tuple[Candidate, ...]:
    """Return the plugins to load.

    :param tables: the names for which the configuration has a ``[plugins.<name>]`` table.
    :param file: the name of the configuration file, for error texts.
    :raises ConfigError: the configuration asks for what is not there.
    :raises PluginError: two plugins have one name, or one is too new for this Nexus.
    """
    names = {candidate.name for candidate in found}
    for name in sorted(set(loading.disabled) - names):
        log.warning("disabled_plugin_not_installed", plugin=name)
    chosen = tuple(c for c in found if c.name not in loading.disabled and _is_wanted(c, loading, tables))
    _refuse_two_of_one_name(chosen)
    for position, text in enumerate(loading.required):
        _check_required(_requirement(text, position, file), names, chosen, loading, file)
    # Behind what is required: of a plugin that is missing, its table says less than that.
    for name in sorted(set(tables) - names):
        raise ConfigError(f"{file}: [plugins.{name}] belongs to no installed plugin{did_you_mean(name, names)}")
    for candidate in chosen:
        _refuse_too_new(candidate)
    return chosen


def _is_wanted(candidate: Candidate, loading: PluginLoadingConfig, tables: Collection[str]) -> bool:
    # A file was named on the command line by hand: that is asking enough.
    return loading.autoload or candidate.name in tables or isinstance(candidate.source, Path)


def _refuse_two_of_one_name(chosen: Sequence[Candidate]) -> None:
    """Refuse what pluggy would do silently: drop the second. For a stage called privacy that is a hole."""
    for one, other in pairwise(chosen):
        if one.name == other.name:
            raise PluginError(f"two plugins are named '{one.name}': {one.label} and {other.label}; uninstall one")


def _requirement(text: str, position: int, file: str) -> Requirement:
    try:
        return Requirement(text)
    except InvalidRequirement as exc:
        raise ConfigError(
            f"{file}: [plugin_loading] required[{position}]: '{text}' is not a plugin's name with an optional version,"
            " such as 'privacy>=1.4'"
        ) from exc


def _check_required(
    wanted: Requirement, names: Collection[str], chosen: Sequence[Candidate], loading: PluginLoadingConfig, file: str
) -> None:
    complaint = f"plugin '{wanted.name}' is required by [plugin_loading] in {file} but"
    distribution = f"nexus-proxy-{canonicalize_name(wanted.name)}"
    if wanted.name not in names:
        raise ConfigError(f"{complaint} is not installed; pip install {distribution}")
    if wanted.name in loading.disabled:
        raise ConfigError(f"{complaint} is disabled; remove it from one of the two lists")
    present = next((c for c in chosen if c.name == wanted.name), None)
    if present is None:
        raise ConfigError(f"{complaint} is not loaded, as autoload is false; add a [plugins.{wanted.name}] table")
    if wanted.specifier and not present.version:
        raise ConfigError(f"{complaint} {present.label} has no version; drop '{wanted.specifier}' or install it")
    if wanted.specifier and not wanted.specifier.contains(present.version, prereleases=True):
        fix = f"pip install '{present.origin}{wanted.specifier}'"
        raise ConfigError(f"{complaint} {wanted.specifier} is not met by {present.label}; {fix}")


def _refuse_too_new(candidate: Candidate) -> None:
    for text in candidate.requires:
        needed = Requirement(text)
        is_for_extra = needed.marker is not None and not needed.marker.evaluate({"extra": ""})
        if canonicalize_name(needed.name) != DISTRIBUTION or is_for_extra:
            continue
        if not needed.specifier.contains(__version__, prereleases=True):
            raise PluginError(f"plugin {candidate.label} needs {DISTRIBUTION}{needed.specifier}; this is {__version__}")
