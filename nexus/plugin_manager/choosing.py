"""Decides which plugins to load, before any of them is imported."""

from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from nexus import __version__
from nexus.config.provenance import Provenance
from nexus.config.quoting import shown
from nexus.config.schema import PluginLoadingConfig
from nexus.errors import ConfigError, PluginError, did_you_mean
from nexus.plugin_manager.finding import Candidate

DISTRIBUTION = "nexus-proxy"
FIRST_PARTY = frozenset({"affinity", "budget", "kubernetes", "privacy", "quality", "redis", "tier"})
"""Plugins whose distribution is named after them."""


def choose(
    found: Sequence[Candidate], loading: PluginLoadingConfig, tables: Collection[str], provenance: Provenance
) -> tuple[Candidate, ...]:
    """Return the plugins to load.

    :param tables: the names of the ``[plugins.<name>]`` tables.
    :param provenance: what set each key, for error texts.
    :raises ConfigError: the configuration names a plugin that is not available.
    :raises PluginError: two plugins have the same name, or one is too new for this Nexus.
    """
    names = {candidate.name for candidate in found}
    chosen = tuple(c for c in found if c.name not in loading.disabled and _is_wanted(c, loading, tables))
    _refuse_same_names(chosen)
    source = provenance.origin_of(("plugin_loading", "required")).label
    for position, text in enumerate(loading.required):
        _check_required(_requirement(text, position, source), names, chosen, loading, source)
    # After the required plugins, whose error is more helpful for a plugin that is missing.
    for name in sorted(set(tables) - names):
        source = provenance.origin_of(("plugins", name)).label
        raise ConfigError(f"{source}: [plugins.{name}] belongs to no installed plugin{_install_hint(name, names)}")
    for candidate in chosen:
        _refuse_too_new(candidate)
    return chosen


def misnamed(found: Sequence[Candidate], loading: PluginLoadingConfig, provenance: Provenance) -> Iterator[str]:
    """Yield a warning for each disabled plugin that is not installed."""
    names = {candidate.name for candidate in found}
    source = provenance.origin_of(("plugin_loading", "disabled")).label
    for name in sorted(set(loading.disabled) - names):
        text = f"{source}: [plugin_loading]: disabled names '{shown(name)}', which is no installed plugin"
        yield f"{text}{did_you_mean(name, names)}"


def _is_wanted(candidate: Candidate, loading: PluginLoadingConfig, tables: Collection[str]) -> bool:
    # A file on the command line is an explicit choice.
    return loading.autoload or candidate.name in tables or isinstance(candidate.source, Path)


def _refuse_same_names(chosen: Sequence[Candidate]) -> None:
    """Raise an error where pluggy would drop the second plugin silently, which may be a privacy stage."""
    for one, other in pairwise(chosen):
        if one.name == other.name:
            raise PluginError(f"two plugins are named '{one.name}': {one.label} and {other.label}; uninstall one")


def _requirement(text: str, position: int, source: str) -> Requirement:
    try:
        return Requirement(text)
    except InvalidRequirement as exc:
        raise ConfigError(
            f"{source}: [plugin_loading] required[{position}]: '{text}' is not a plugin's name with an optional"
            " version, such as 'privacy>=1.4'"
        ) from exc


def _check_required(
    wanted: Requirement, names: Collection[str], chosen: Sequence[Candidate], loading: PluginLoadingConfig, source: str
) -> None:
    problem = f"plugin '{wanted.name}' is required by [plugin_loading] in {source} but"
    if wanted.name not in names:
        raise ConfigError(f"{problem} is not installed{_install_hint(wanted.name, names)}")
    if wanted.name in loading.disabled:
        raise ConfigError(f"{problem} is disabled; remove it from one of the two lists")
    present = next((c for c in chosen if c.name == wanted.name), None)
    if present is None:
        raise ConfigError(f"{problem} is not loaded, as autoload is false; add a [plugins.{wanted.name}] table")
    if wanted.specifier and not present.version:
        raise ConfigError(f"{problem} {present.label} has no version; drop '{wanted.specifier}' or install it")
    if wanted.specifier and not wanted.specifier.contains(present.version, prereleases=True):
        fix = f"pip install '{present.origin}{wanted.specifier}'"
        raise ConfigError(f"{problem} {wanted.specifier} is not met by {present.label}; {fix}")


def _install_hint(name: str, names: Collection[str]) -> str:
    if name in FIRST_PARTY:
        return f"; pip install {DISTRIBUTION}-{name}"
    return did_you_mean(name, {*names, *FIRST_PARTY}) or "; install the package that has it"


def _refuse_too_new(candidate: Candidate) -> None:
    for text in candidate.requires:
        needed = Requirement(text)
        is_for_extra = needed.marker is not None and not needed.marker.evaluate({"extra": ""})
        if canonicalize_name(needed.name) != DISTRIBUTION or is_for_extra:
            continue
        if not needed.specifier.contains(__version__, prereleases=True):
            raise PluginError(f"plugin {candidate.label} needs {DISTRIBUTION}{needed.specifier}; this is {__version__}")
