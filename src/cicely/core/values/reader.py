"""MessagePack → a value: one message's extensions, read as data and never as code."""

from __future__ import annotations

import datetime as dt
import decimal
import os
import pathlib
import struct
import uuid
from collections.abc import Callable
from typing import Any, ClassVar, Final

import msgspec

from cicely.core.values import arrays, extensions
from cicely.core.values.extensions import MAX_DECIMAL_CHARS, MAX_INT_BYTES
from cicely.core.values.inputs import Inputs
from cicely.core.values.moments import moment_from_text
from cicely.core.values.nesting import MAX_DEPTH, TOO_DEEP_TO_READ, check_depth
from cicely.core.values.own import OwnTypes
from cicely.errors import Malformed

_COMPLEX: Final = struct.Struct(">dd")
_TIMEDELTA: Final = struct.Struct(">iii")


class Reader:
    """Reads one message's extensions. Made anew for each message: it counts their nesting."""

    def __init__(self, own: OwnTypes, *, allow_pickle: bool) -> None:
        self._own = own
        self._allow_pickle = allow_pickle
        self._depth = 0

    def rebuild(self, code: int, data: memoryview) -> object:
        """Return the value of one extension; msgspec calls this as it meets them."""
        builder = self._builders.get(code)
        if builder is None:
            raise Malformed(f"its stored value has an extension of the unknown code {code}")
        if self._depth >= MAX_DEPTH:
            raise Malformed(TOO_DEEP_TO_READ)
        self._depth += 1
        try:
            return builder(self, data)
        finally:
            self._depth -= 1

    def _list(self, data: memoryview) -> list[Any]:
        return msgspec.msgpack.decode(data, type=list[Any], ext_hook=self.rebuild)

    def _tuple(self, data: memoryview) -> object:
        return tuple(self._list(data))

    def _set(self, data: memoryview) -> object:
        return set(self._list(data))

    def _frozenset(self, data: memoryview) -> object:
        return frozenset(self._list(data))

    def _pairs(self, data: memoryview) -> object:
        flat = self._list(data)
        return dict(zip(flat[::2], flat[1::2], strict=True))

    def _int(self, data: memoryview) -> object:
        if len(data) > MAX_INT_BYTES:
            raise Malformed(f"its stored value has an integer of {len(data):,} bytes")
        return int.from_bytes(data, "big", signed=True)

    def _datetime(self, data: memoryview) -> object:
        return moment_from_text(dt.datetime, str(data, "utf-8"))

    def _date(self, data: memoryview) -> object:
        return dt.date.fromisoformat(str(data, "utf-8"))

    def _time(self, data: memoryview) -> object:
        return moment_from_text(dt.time, str(data, "utf-8"))

    def _timedelta(self, data: memoryview) -> object:
        days, seconds, microseconds = _TIMEDELTA.unpack(data)
        return dt.timedelta(days, seconds, microseconds)

    def _decimal(self, data: memoryview) -> object:
        if len(data) > MAX_DECIMAL_CHARS:
            raise Malformed(f"its stored value has a Decimal of {len(data):,} digits")
        return decimal.Decimal(str(data, "ascii"))

    def _uuid(self, data: memoryview) -> object:
        return uuid.UUID(bytes=bytes(data))

    def _path(self, data: memoryview) -> object:
        return _PATHS[chr(data[0])](os.fsdecode(bytes(data[1:])))

    def _complex(self, data: memoryview) -> object:
        return complex(*_COMPLEX.unpack(data))

    def _bytearray(self, data: memoryview) -> object:
        return bytearray(data)

    def _memoryview(self, data: memoryview) -> object:
        return memoryview(bytes(data))

    def _array(self, data: memoryview) -> object:
        return arrays.from_bytes(data)

    def _own_type(self, data: memoryview) -> object:
        tag, parts = self._list(data)
        check_depth(parts, data)
        return self._own.tagged(tag).whole(parts)

    def _unpickle(self, data: memoryview) -> object:
        if not self._allow_pickle:
            raise Malformed("its stored value holds a pickle, and allow_pickle is off")
        import pickle  # the signature was checked before

        return pickle.loads(data)  # noqa: S301

    def _inputs(self, data: memoryview) -> object:
        return Inputs.unpacked(data)

    _builders: ClassVar[dict[int, Callable[[Any, memoryview], object]]] = {
        extensions.TUPLE: _tuple,
        extensions.SET: _set,
        extensions.FROZENSET: _frozenset,
        extensions.PAIRS: _pairs,
        extensions.INT: _int,
        extensions.DATETIME: _datetime,
        extensions.DATE: _date,
        extensions.TIME: _time,
        extensions.TIMEDELTA: _timedelta,
        extensions.DECIMAL: _decimal,
        extensions.UUID: _uuid,
        extensions.PATH: _path,
        extensions.COMPLEX: _complex,
        extensions.BYTEARRAY: _bytearray,
        extensions.MEMORYVIEW: _memoryview,
        extensions.ARRAY: _array,
        extensions.OWN: _own_type,
        extensions.PICKLE: _unpickle,
        extensions.INPUTS: _inputs,
    }


_PATHS: Final[dict[str, Callable[[str], pathlib.PurePath]]] = {
    "/": pathlib.Path,
    "p": pathlib.PurePosixPath,
    "w": pathlib.PureWindowsPath,
}
