"""What stands in a job's arguments for the results of the jobs before it, until it is run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import msgspec

from cicely.errors import Malformed, UsageError

#: The end of a range that takes all that is there, also what was added after it was written.
OPEN: Final = 1 << 31

_RANGE: Final = 0
_LIST: Final = 1

#: One input by its index, or a list of ranges of inputs and further lists.
Shape = int | tuple["range | tuple[Any, ...]", ...]


class Part(StrEnum):
    """What of a parent is wanted: its result, or one of the words that describe its failure."""

    RESULT = "result"
    JOB_ID = "job_id"
    ERROR = "error"
    TRACEBACK = "traceback"


@dataclass(frozen=True, slots=True)
class Inputs:
    """Stands for results of jobs: indices count a job's edges that bring an input, in their order.

    Whoever asks for it as a text or a truth, such as a function that makes a lane of the arguments,
    is refused: the result is not there yet.
    """

    shape: Shape
    part: Part = Part.RESULT

    def packed(self) -> bytes:
        """Return what the codec writes."""
        return msgspec.msgpack.encode([self.part, _packed(self.shape)])

    @classmethod
    def unpacked(cls, data: bytes | memoryview) -> Inputs:
        """Read what `packed` wrote. Raises ValueError and the like for other bytes."""
        part, shape = msgspec.msgpack.decode(data)
        return cls(shape if isinstance(shape, int) else _list_of(shape), Part(part))

    def of(self, inputs: Sequence[Callable[[Part], Any]]) -> Any:
        """Return the value that this stands for, given what tells a part of each input."""
        return _picked(self.shape, inputs, self.part)

    def __str__(self) -> str:
        """Refuse: there is no text of it yet."""
        raise self._refusal()

    def __format__(self, _spec: str) -> str:
        """Refuse, as `str` does."""
        raise self._refusal()

    def __bool__(self) -> bool:
        """Refuse: nobody knows yet."""
        raise self._refusal()

    def _refusal(self) -> UsageError:
        return UsageError(
            "it is the result of another job, which is not there yet: a queue, lane, tag or key cannot "
            "follow from it; set it for the signature, as in task.s(...).set(queue=...)"
        )


def _packed(shape: Any) -> object:
    if isinstance(shape, int):
        return shape
    if isinstance(shape, range):
        return [_RANGE, shape.start, shape.stop]
    return [_LIST, *map(_packed, shape)]


def _list_of(packed: list[Any]) -> tuple[Any, ...]:
    form, *items = packed
    if form != _LIST:
        raise Malformed(f"its stored inputs have the unknown form {form}")
    return tuple(range(item[1], item[2]) if item[0] == _RANGE else _list_of(item) for item in items)


def _picked(shape: Any, inputs: Sequence[Callable[[Part], Any]], part: Part) -> Any:
    if isinstance(shape, int):
        if shape >= len(inputs):
            raise Malformed(f"it wants the result of job {shape} before it, and there are {len(inputs)}")
        return inputs[shape](part)
    picked: list[Any] = []
    for item in shape:
        if not isinstance(item, range):
            picked.append(_picked(item, inputs, part))
            continue
        if item.stop != OPEN and item.stop > len(inputs):
            raise Malformed(
                f"it wants the results of {item.stop} jobs before it, and there are {len(inputs)}"
            )
        picked += [tell(part) for tell in inputs[item.start : item.stop]]
    return picked
