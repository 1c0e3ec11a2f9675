"""Why a value cannot be stored, in the words of a sentence that begins with where it is."""

from __future__ import annotations

import inspect
import io
import reprlib
from collections.abc import Awaitable, Iterator
from types import ModuleType
from typing import Final

_SHORT: Final = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60

_STEPS_SHOWN: Final = 10


class Refused(Exception):
    """A value cannot be stored; carries the reason and collects the path to it on the way out."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.steps: list[str] = []

    def within(self, step: str) -> None:
        """Add the step that leads from a container to what was refused."""
        self.steps.append(step)

    @property
    def path(self) -> str:
        """The way from the outermost value, as Python writes it: ``['rows'][3]``."""
        steps = self.steps[::-1]
        if len(steps) > _STEPS_SHOWN:
            steps = [*steps[: _STEPS_SHOWN - 2], " … ", steps[-1]]
        return "".join(steps)


def shown(value: object) -> str:
    """Return a short repr for a message."""
    return _SHORT.repr(value)


def refusal_of(value: object) -> str:
    """Return what `value` is, and what to pass instead."""
    for kind, sentence in _KINDS:
        if isinstance(value, kind):
            return sentence
    if inspect.isroutine(value):
        return _callable_sentence(value)
    name = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    return (
        f"is of the type {name}, which is not stored by value. "
        "Register it with app.codec(type, encode, decode, tag=), or pass what it is made from"
    )


_KINDS: Final[tuple[tuple[type | tuple[type, ...], str], ...]] = (
    (type, "is a class. Pass its name"),
    (ModuleType, "is a module. Pass its name"),
    (io.IOBase, "is an open file. Pass its path or its content"),
    (BaseException, "is an exception. Pass str() of it"),
    (range, "is a range. Pass list() of it, or its bounds"),
    (Awaitable, "is a coroutine or future. Await it, and pass its result"),
    (Iterator, "is an iterator or generator, which can be read only once. Pass list() of it"),
)


def _callable_sentence(value: object) -> str:
    name = getattr(value, "__qualname__", "")
    what = "a lambda" if name.endswith("<lambda>") else f"the function {name}"
    return f"is {what}. Pass a value, and let the task call the function"
