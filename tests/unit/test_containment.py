"""Exceptions of plugins become errors that name the plugin; a Ctrl-C of the operator does not."""

import signal

import pytest

from nexus.containment import contained, described, interrupts_noted, is_interrupt, safe_text
from nexus.errors import ConfigError, PluginError


class Unshowable(Exception):
    """Has no text."""

    def __str__(self):
        raise SystemExit


@pytest.mark.parametrize("raised", [ValueError("no"), SystemExit(1), KeyboardInterrupt(), GeneratorExit()])
def test_whatever_a_plugin_raises_names_the_plugin(raised):
    text = f"plugin 'night' failed: {type(raised).__name__}"

    with pytest.raises(PluginError, match=text) as caught, contained("plugin 'night' failed"):
        raise raised

    assert caught.value.__cause__ is raised


def test_errors_of_nexus_pass_unchanged():
    error = ConfigError("wrong")

    with pytest.raises(ConfigError) as caught, contained("plugin 'night' failed"):
        raise error

    assert caught.value is error


def test_an_interrupt_of_the_operator_passes_unchanged():
    with interrupts_noted():
        with pytest.raises(KeyboardInterrupt), contained("plugin 'night' failed"):
            signal.raise_signal(signal.SIGINT)
        assert is_interrupt(KeyboardInterrupt())
        assert is_interrupt(BaseExceptionGroup("both", [SystemExit(), KeyboardInterrupt()]))

    assert not is_interrupt(KeyboardInterrupt())


def test_an_exception_without_a_text_is_described_by_its_type():
    assert described(ValueError()) == "ValueError"
    assert safe_text(Unshowable()) == "<Unshowable that cannot be shown>"
