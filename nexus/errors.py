"""The exceptions that Nexus raises on purpose."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from difflib import get_close_matches
from typing import Any, Final

from nexus.error_codes import CODES, UpstreamFault


class NexusError(Exception):
    """The base of all errors that Nexus raises on purpose."""


class ConfigError(NexusError):
    """The configuration is wrong; the text names file, key and what was expected.

    When a plugin raises it, Nexus adds the file, the plugin's table and the line.

    :param key: the wrong key of the plugin's table.
    :param hint: what to do about it.
    """

    def __init__(self, text: str, *, key: str = "", hint: str = "") -> None:
        super().__init__(text)
        self.key = key
        self.hint = hint


class PluginError(NexusError):
    """A plugin cannot be loaded, configured, built or started; the text names it."""


class StartError(NexusError):
    """Nexus cannot start although its configuration is valid: a port is in use, a file is locked."""


class StoreError(NexusError):
    """A store operation failed and changed nothing; the text names the store and the reason."""


class StoreOutcomeUnknown(StoreError):
    """A store was asked for a change and did not answer in time: the change happened as a whole, or not at all."""


class LimitReached(NexusError):
    """An addition would exceed its limit, so its batch changed nothing.

    :param total: the number at *key*, including earlier changes of the batch.
    """

    def __init__(self, key: str, total: Decimal) -> None:
        super().__init__(f"'{key}' is {total:f}; the addition would exceed its limit")
        self.key = key
        self.total = total


class StageFailed(NexusError):
    """A stage failed, and it declares that requests are rejected then."""

    def __init__(self, plugin: str, stage: str) -> None:
        super().__init__(f"stage '{stage}' of plugin '{plugin}' failed")
        self.plugin = plugin
        self.stage = stage


class RequestError(NexusError):
    """A request ends with an error in the client's protocol.

    :param code: a key of :data:`nexus.error_codes.CODES` that has a status.
    :param message: what was wrong and what to do; it quotes nothing of the request but names.
    :param param: the wrong field of the request, if there is one.
    :param context: what would have to change for the request to succeed.
    :param retry_after_s: seconds after which the client may retry.
    :param close: whether the connection must be closed.
    :param stage: the stage that refused the request, if one did.
    :param reason: why it did, for the operator.
    """

    def __init__(  # noqa: PLR0913 - the parts of one error reply, all but two of them optional
        self,
        code: str,
        message: str,
        *,
        param: str | None = None,
        context: Mapping[str, Any] | None = None,
        retry_after_s: int | None = None,
        close: bool = False,
        headers: Mapping[str, str] | None = None,
        stage: str | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        status = CODES[code].status
        if status is None:
            raise ValueError(f"'{code}' is no code of a reply that has not begun")
        self.status = status
        self.message = message
        self.param = param
        self.context = context
        self.retry_after_s = retry_after_s
        self.close = close
        self.headers = headers
        self.stage = stage
        self.reason = reason


class UpstreamError(NexusError):
    """An attempt at a backend failed; :mod:`nexus.proxy.exchange.retry` decides what happens next.

    :param is_refusal: whether the backend refused the request before it began to process it.
    """

    def __init__(
        self, fault: UpstreamFault, message: str, *, status: int | None = None, is_refusal: bool = False
    ) -> None:
        super().__init__(message)
        self.fault = fault
        self.status = status
        self.is_refusal = is_refusal


MAX_COMPARED: Final = 100
"""Characters of a name that are compared: the time grows with the square of the length."""


def did_you_mean(name: str, known: Iterable[str], *, before: str = "; ") -> str:
    """Return *before* and ``did you mean 'x'?`` for the closest of *known*; empty when none is close."""
    spelled = {each.lower(): each for each in sorted(known)}
    closest = get_close_matches(name[:MAX_COMPARED].lower(), spelled, n=1)
    return f"{before}did you mean '{spelled[closest[0]]}'?" if closest else ""
