"""A dict that cannot be written, for values that many requests and stages of plugins share."""

from typing import Any, NoReturn, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class ReadOnlyDict(dict[K, V]):
    """As fast to read and to encode as any dict; ``dict(it)`` returns a writable copy."""

    __slots__ = ()

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("this dict is shared and read-only; copy it with dict()")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __copy__(self) -> "ReadOnlyDict[K, V]":
        return self

    def __deepcopy__(self, memo: object) -> "ReadOnlyDict[K, V]":
        del memo
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)
