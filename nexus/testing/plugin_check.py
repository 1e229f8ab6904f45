"""Checks an installed plugin: its package, its configuration and its stages."""

import importlib
import inspect
from collections.abc import Iterator, Mapping
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nexus.config.schema import PluginLoadingConfig, PolicyKeys
from nexus.containment import contained, is_interrupt, safe_text
from nexus.errors import NexusError, PluginError, did_you_mean
from nexus.plugin_manager import Candidate, Plugin, PluginManager, find_plugins
from nexus.routing.pipeline import Pipeline
from nexus.routing.stage.api import Reconciler
from nexus.routing.stage.order import in_order
from nexus.testing.builders import make_backend, make_intent
from nexus.testing.imports import assert_only_uses_api
from nexus.testing.policy_keys import samples_of
from nexus.testing.readme_contract import HEADINGS
from nexus.testing.reconciler_contract import ReconcilerContract

KEYWORD: Final = "nexus-proxy-plugin"


class Finding(NamedTuple):
    """The result of one check."""

    outcome: Literal["ok", "advice", "failed"]
    """``advice``: it works, but can be improved."""
    what: str
    detail: str = ""


def check_plugin(
    name: str, tables: Mapping[str, Mapping[str, Any]] | None = None, files: tuple[Path, ...] = ()
) -> Iterator[Finding]:
    """Check every plugin of the distribution or plugin *name*, and yield each result at once.

    :param tables: the ``[plugins]`` table of a configuration; tables of other plugins are ignored.
    :param files: plugins in single files.
    :raises PluginError: nothing of that name is installed.
    """
    found = find_plugins(files)
    wanted = [c for c in found if c.name == name or canonicalize_name(c.origin) == canonicalize_name(name)]
    if not wanted:
        known = [known for candidate in found for known in (candidate.name, candidate.origin)]
        raise PluginError(f"no installed plugin or distribution is named '{name}'{did_you_mean(name, known)}")
    for candidate in wanted:
        others = tuple(sorted({other.name for other in found} - {candidate.name}))
        yield from check_candidate(candidate, others, (tables or {}).get(candidate.name), files)


def check_candidate(
    candidate: Candidate,
    others: tuple[str, ...],
    table: Mapping[str, Any] | None = None,
    files: tuple[Path, ...] = (),
) -> Iterator[Finding]:
    """Check one plugin, and yield each result.

    :param others: the names of all other plugins, which are not loaded.
    """
    if not isinstance(candidate.source, Path):
        yield from check_package(candidate)
    tables = {} if table is None else {candidate.name: table}
    try:
        manager = PluginManager.load(PluginLoadingConfig(disabled=others), tables, files=files)
        contributions = manager.configure(tables)
        stages = [stage for _, stage in contributions.reconcilers()]
        in_order((), contributions.reconcilers())
    except NexusError as exc:
        yield Finding("failed", f"{candidate.name}: it is loaded and configured", safe_text(exc))
        return
    yield Finding("ok", f"{candidate.name}: it is loaded and configured")
    for index, stage in enumerate(stages):
        if isinstance(stage, Reconciler):
            yield from check_stage(manager, tables, index, stage)


def check_package(candidate: Candidate) -> Iterator[Finding]:
    """Check the package of an installed plugin without loading the plugin."""
    if isinstance(candidate.source, Path):
        return
    dist, name = distribution(candidate.origin), candidate.name
    yield Finding("ok", f"{name}: {dist.name} {dist.version} has the entry point {name} = {candidate.source.value}")
    try:
        with contained(f"plugin {candidate.label} cannot be imported", passing=()):
            root = importlib.import_module(candidate.source.module.partition(".")[0])
    except PluginError as exc:
        yield Finding("failed", f"{name}: it is imported", safe_text(exc))
        return
    try:
        assert_only_uses_api(root)
        yield Finding("ok", f"{name}: it imports nothing of Nexus but nexus.api")
    except AssertionError as exc:
        yield Finding("failed", f"{name}: it imports nothing of Nexus but nexus.api", str(exc))
    package = Path(str(root.__file__)).parent if hasattr(root, "__path__") else None
    is_typed = package is not None and (package / "py.typed").is_file()
    yield _advised(
        is_typed, f"{name}: it has a py.typed", "without it, type checkers ignore the annotations of the package"
    )
    yield from _check_metadata(dist, name)


def _check_metadata(dist: Distribution, name: str) -> Iterator[Finding]:
    core = [r for r in map(Requirement, dist.requires or ()) if canonicalize_name(r.name) == "nexus-proxy"]
    what = f"{name}: it requires nexus-proxy from some release on"
    has_floor = any(spec.operator in {">=", "~=", "=="} for requirement in core for spec in requirement.specifier)
    yield Finding("ok", what) if has_floor else Finding("failed", what, "nexus-proxy>=… is not in install_requires")
    keywords = " ".join(dist.metadata.get_all("Keywords") or ())
    yield _advised(
        KEYWORD in keywords,
        f"{name}: {KEYWORD} is among its keywords",
        "without it, searches of the index do not find the plugin",
    )
    classifiers = dist.metadata.get_all("Classifier") or ()
    is_stated = any(classifier.startswith("Development Status ::") for classifier in classifiers)
    yield _advised(is_stated, f"{name}: it states its stability", "add a Development Status classifier")
    # The README is the body of the metadata or one of its fields; the text contains it either way.
    described = dist.read_text("METADATA") or dist.read_text("PKG-INFO") or ""
    missing = [heading for heading in HEADINGS if f"\n{heading}\n" not in described]
    yield _advised(not missing, f"{name}: its README has the usual headings", f"missing are: {', '.join(missing)}")


def check_stage(
    manager: PluginManager, tables: Mapping[str, Mapping[str, Any]], index: int, stage: Reconciler
) -> Iterator[Finding]:
    """Check the contract of one stage, and yield each result."""
    (plugin,) = manager.plugins
    which = f"stage {stage.name}"
    states = any("on_error" in vars(owner) for owner in (stage, *type(stage).__mro__) if owner is not Reconciler)
    what = f"{which}: it says what a failure of it means"
    yield Finding("ok", what) if states else Finding("failed", what, 'declare on_error = "reject", or "skip"')

    class Installed(ReconcilerContract):
        def make(self) -> Reconciler:
            made = manager.configure(tables).reconcilers()[index][1]
            assert isinstance(made, Reconciler)
            return made

    contract = Installed()
    contract.plugin = plugin.name
    for name in sorted(dir(contract)):
        if name.startswith("test_"):
            yield _checked(f"{which}: {name.removeprefix('test_').replace('_', ' ')}", getattr(contract, name))
    keys = manager.configure(tables).policy_keys().get(plugin.name)
    if keys is not None:
        yield _checked(f"{which}: it copes with each policy", lambda: cope_with_policies(contract.make, plugin, keys))


def cope_with_policies(make: Any, plugin: Plugin, keys: type[PolicyKeys]) -> None:
    """Run a stage with each sample of its policy keys. :raises AssertionError: the stage fails."""
    fleet = [
        make_backend(f"gpu-{number}", zone=zone, tier=tier)
        for number, (zone, tier) in enumerate([("local", 1), ("local", 4), ("cloud", 2), ("cloud", 5)])
    ]
    for sample in samples_of(keys):
        pipeline = Pipeline(in_order((), [(plugin, make())]))
        intent = make_intent(backends=fleet, policy={plugin.name: sample})
        without_backends = make_intent(policy={plugin.name: sample})
        try:
            pipeline.run(intent)
            pipeline.run(without_backends)
        except NexusError as exc:
            raise AssertionError(f"under {sample}: {exc.__cause__ or exc}") from exc
        assert pipeline.stages[0].counters.failures == {}, f"it fails under {sample}"


def _checked(what: str, check: Any) -> Finding:
    try:
        check()
    except BaseException as exc:
        if is_interrupt(exc):
            raise
        # Any exception of a plugin is a failed check.
        reason = inspect.cleandoc(safe_text(exc)).partition("\n")[0]
        return Finding("failed", what, f"{type(exc).__name__}: {reason}" if reason else type(exc).__name__)
    return Finding("ok", what)


def _advised(is_ok: object, what: str, advice: str) -> Finding:
    return Finding("ok", what) if is_ok else Finding("advice", what, advice)
