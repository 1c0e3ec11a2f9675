"""Arrays of one type as the server reads them: packed in one go, where the driver asks each element anew."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, repeat
from struct import Struct, pack
from typing import Final

from psycopg import Connection
from psycopg.adapt import Buffer, Dumper
from psycopg.pq import Format

_HEADER: Final = Struct("!iiiii").pack
_LENGTH: Final = Struct("!i").pack
_NULL: Final = _LENGTH(-1)
#: The server's numbers of the types of elements and of their arrays.
_SMALLINT, _INT, _BIGINT, _FLOAT, _BYTEA, _TID = 21, 23, 20, 701, 17, 27


class Array:
    """An array, packed."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class _Smallints(Array):
    pass


class _Ints(Array):
    pass


class _Bigints(Array):
    pass


class _Floats(Array):
    pass


class _Byteas(Array):
    pass


class _Tids(Array):
    pass


def smallints(values: Sequence[int]) -> Array:
    """Return a smallint[]."""
    return _Smallints(_packed(values, "ih", 2, _SMALLINT))


def ints(values: Sequence[int]) -> Array:
    """Return an int[]."""
    return _Ints(_packed(values, "ii", 4, _INT))


def bigints(values: Sequence[int]) -> Array:
    """Return a bigint[]."""
    return _Bigints(_packed(values, "iq", 8, _BIGINT))


def floats(values: Sequence[float]) -> Array:
    """Return a float8[]."""
    return _Floats(_packed(values, "id", 8, _FLOAT))


def tids(values: Sequence[bytes]) -> Array:
    """Return a tid[] of places as the server gave them out."""
    return _Tids(_packed(values, "i6s", 6, _TID))


def byteas(values: Sequence[bytes | None]) -> Array:
    """Return a bytea[], with NULL for None."""
    parts = [_HEADER(1, 1, _BYTEA, len(values), 1)] if values else [_HEADER(0, 0, _BYTEA, 0, 0)[:12]]
    for value in values:
        if value is None:
            parts.append(_NULL)
        else:
            parts.append(_LENGTH(len(value)))
            parts.append(value)
    return _Byteas(b"".join(parts))


def _packed(values: Sequence[float] | Sequence[bytes], element: str, size: int, oid: int) -> bytes:
    count = len(values)
    if not count:
        return _HEADER(0, 0, oid, 0, 0)[:12]
    return pack(
        f"!iiiii{element * count}", 1, 0, oid, count, 1, *chain.from_iterable(zip(repeat(size), values))
    )


class _ArrayDumper(Dumper):
    """Hands out what is packed already."""

    format = Format.BINARY

    def dump(self, obj: Array) -> Buffer:
        """Return the array as it was packed."""
        return obj.data


class _SmallintsDumper(_ArrayDumper):
    oid = 1005


class _IntsDumper(_ArrayDumper):
    oid = 1007


class _BigintsDumper(_ArrayDumper):
    oid = 1016


class _FloatsDumper(_ArrayDumper):
    oid = 1022


class _ByteasDumper(_ArrayDumper):
    oid = 1001


class _TidsDumper(_ArrayDumper):
    oid = 1010


_DUMPERS: Final = (
    (_Smallints, _SmallintsDumper),
    (_Ints, _IntsDumper),
    (_Bigints, _BigintsDumper),
    (_Floats, _FloatsDumper),
    (_Byteas, _ByteasDumper),
    (_Tids, _TidsDumper),
)


def take_arrays(connection: Connection[object]) -> None:
    """Have a connection take these arrays."""
    for array, dumper in _DUMPERS:
        connection.adapters.register_dumper(array, dumper)
