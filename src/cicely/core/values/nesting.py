"""How deep a value is nested, asked without visiting each leaf in Python."""

from __future__ import annotations

from itertools import chain
from typing import Any, Final

from cicely.errors import Malformed

MAX_DEPTH: Final = 64
"""Containers within containers, counted both when writing and when reading."""

# A value that holds one list many times over is written out each time; without a bound, forty
# doublings of an empty list would never end.
MAX_CONTAINERS: Final = 1 << 22

LEAVES: Final = frozenset({type(None), bool, int, float, str, bytes})
STR: Final = frozenset({str})
TOO_DEEP_TO_READ: Final = f"its stored value is nested deeper than {MAX_DEPTH} levels"

_PLAIN: Final = LEAVES | {list, dict}
_CONTAINERS: Final = frozenset({list, tuple, dict, set, frozenset})

# Every byte that can begin a container or an extension, and so add to the depth.
_NESTING_BYTES: Final = bytes([*range(0x80, 0xA0), 0xC7, 0xC8, 0xC9, *range(0xD4, 0xD9), *range(0xDC, 0xE0)])


def is_plain(value: object) -> bool:
    """Return whether MessagePack alone keeps every type in `value`, within the depth.

    Looks at one level of nesting at a time, so that the types of a million leaves are compared in C.
    """
    return _is_flat(value) or _is_plain_within(value)


def _is_flat(value: Any) -> bool:
    kind = type(value)
    if kind is dict:
        return STR.issuperset(map(type, value)) and LEAVES.issuperset(map(type, value.values()))
    return kind in LEAVES or (kind is list and LEAVES.issuperset(map(type, value)))


def _is_plain_within(value: object) -> bool:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH + 1):
        kinds = set(map(type, level))
        if kinds <= LEAVES:
            return True
        if not kinds <= _PLAIN or len(level) > MAX_CONTAINERS:
            return False
        dicts = [item for item in level if type(item) is dict]
        if not STR.issuperset(map(type, chain.from_iterable(dicts))):
            return False
        lists = [item for item in level if type(item) is list]
        level = [*chain.from_iterable(lists), *chain.from_iterable(map(dict.values, dicts))]
    return False


def check_depth(value: object, body: bytes | memoryview) -> None:
    """Raise Malformed when `value`, just read from `body`, is nested too deep.

    A level costs at least one byte that can begin a container; where there are few such bytes, a
    pass over them in C spares the pass over the values.
    """
    if len(body) <= MAX_DEPTH:
        return
    if len(body) - len(bytes(body).translate(None, _NESTING_BYTES)) <= MAX_DEPTH:
        return
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH + 1):
        if _CONTAINERS.isdisjoint(map(type, level)):
            return
        containers = [item for item in level if type(item) in _CONTAINERS]
        dicts = [item for item in containers if type(item) is dict]
        level = [*chain.from_iterable(containers), *chain.from_iterable(map(dict.values, dicts))]
    raise Malformed(TOO_DEEP_TO_READ)
