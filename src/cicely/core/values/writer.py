"""A value → what MessagePack holds, with the path to whatever cannot be stored."""

from __future__ import annotations

import datetime as dt
import decimal
import os
import pathlib
import struct
import uuid
from collections.abc import Callable, Iterable
from enum import Enum
from itertools import chain
from typing import Any, ClassVar, Final

import msgspec
from msgspec.msgpack import Ext

from cicely.core.values import arrays, extensions
from cicely.core.values.extensions import MAX_DECIMAL_CHARS, MAX_INT_BYTES
from cicely.core.values.fields import fields_of
from cicely.core.values.inputs import Inputs
from cicely.core.values.moments import moment_text
from cicely.core.values.nesting import MAX_CONTAINERS, MAX_DEPTH, STR
from cicely.core.values.own import OwnType, OwnTypes
from cicely.core.values.refusal import Refused, refusal_of, shown

ENCODER: Final = msgspec.msgpack.Encoder()

_NEVER_REFUSED: Final = frozenset({type(None), bool, float, bytes})
_COMPLEX: Final = struct.Struct(">dd")
_TIMEDELTA: Final = struct.Struct(">iii")


class Writer:
    """Writes one value. Raises `Refused` with the path to what cannot be stored."""

    def __init__(self, own: OwnTypes, *, allow_pickle: bool) -> None:
        self._own = own
        self._allow_pickle = allow_pickle
        self._containers = 0
        self._hashing = 0
        self.wrote_pickle = False

    def bytes_of(self, value: object) -> bytes:
        """Return `value` as MessagePack."""
        return ENCODER.encode(self.walk(value, 0))

    def walk(self, value: object, depth: int) -> object:
        """Return what MessagePack holds for `value`, which lies within `depth` containers."""
        handler = self.handlers.get(type(value))
        if handler is not None:
            return handler(self, value, depth)
        return self._other(value, depth)

    def name(self, name: object) -> str:
        """Return the name of a keyword argument."""
        if not isinstance(name, str):
            raise Refused("has a name that is no text")
        _refuse_surrogates(name)
        return str.__str__(name)

    # --- what MessagePack knows ------------------------------------------------------------

    def _as_it_is(self, value: object, _depth: int) -> object:
        return value

    def _float(self, value: float, _depth: int) -> object:
        return float.__float__(value)

    def _int(self, value: int, _depth: int) -> object:
        if -(1 << 63) <= value < (1 << 64):
            return int.__int__(value)
        size = value.bit_length() // 8 + 1
        if size > MAX_INT_BYTES:
            raise Refused(
                f"is an integer of {value.bit_length():,} bits; "
                f"at most {MAX_INT_BYTES * 8 - 1:,} are stored. Pass it as bytes"
            )
        return Ext(extensions.INT, value.to_bytes(size, "big", signed=True))

    def _text(self, value: str, _depth: int) -> object:
        if not value.isascii():
            _refuse_surrogates(value)
        return str.__str__(value)

    def _bytes(self, value: bytes, _depth: int) -> object:
        return bytes(value)

    def _list(self, value: list[object], depth: int) -> object:
        self.enter_unhashable("list", depth)
        if _NEVER_REFUSED.issuperset(map(type, value)):
            return list(value)
        return self.items(value, depth)

    def _dict(self, value: dict[object, object], depth: int) -> object:
        self.enter_unhashable("dict", depth)
        if not STR.issuperset(map(type, value)):
            return self._pairs(value, depth)
        if not "".join(value).isascii():  # type: ignore[arg-type]  # all are str
            for key in value:
                self._key(key, depth)
        return self.mapping(((key, item, f"[{shown(key)}]") for key, item in value.items()), depth)

    def mapping(self, entries: Iterable[tuple[Any, object, str]], depth: int) -> dict[str, object]:
        """Return the mapping of `entries`: key, value and the step that leads to the value."""
        stored: dict[str, object] = {}
        step = ""
        try:
            for key, item, step in entries:  # noqa: B007  # step is read when the walk refuses
                stored[key] = self.walk(item, depth + 1)
        except Refused as refused:
            refused.within(step)
            raise
        return stored

    # --- containers that need an extension ---------------------------------------------------

    def _tuple(self, value: tuple[object, ...], depth: int) -> object:
        self.enter(depth)
        return Ext(extensions.TUPLE, ENCODER.encode(self.items(value, depth)))

    def _set(self, value: Iterable[object], depth: int) -> object:
        self.enter_unhashable("set", depth)
        return Ext(extensions.SET, ENCODER.encode(self.elements(value, depth)))

    def _frozenset(self, value: Iterable[object], depth: int) -> object:
        self.enter(depth)
        return Ext(extensions.FROZENSET, ENCODER.encode(self.elements(value, depth)))

    def _pairs(self, value: dict[object, object], depth: int) -> object:
        pairs = self.pairs(value, depth)
        return Ext(extensions.PAIRS, ENCODER.encode([*chain.from_iterable(pairs)]))

    def pairs(self, value: dict[object, object], depth: int) -> list[tuple[object, object]]:
        """Return the written (key, value) pairs of a dict whose keys may be of any type."""
        keys = [self._key(key, depth) for key in value]
        if len({ENCODER.encode(key) for key in keys}) < len(keys):
            raise Refused("has two keys that become the same when stored")
        entries = zip(range(len(keys)), value.values(), (f"[{shown(key)}]" for key in value), strict=True)
        items: dict[Any, object] = self.mapping(entries, depth)
        return list(zip(keys, items.values(), strict=True))

    def elements(self, value: Iterable[object], depth: int) -> list[object]:
        """Return the written elements of a set."""
        self._hashing += 1
        try:
            return [self.walk(item, depth + 1) for item in value]
        except Refused as refused:
            refused.within("{…}")
            raise
        finally:
            self._hashing -= 1

    def items(self, value: Iterable[object], depth: int) -> list[object]:
        """Return the written elements of a list or tuple."""
        items: list[object] = []
        try:
            for item in value:
                items.append(self.walk(item, depth + 1))  # noqa: PERF401  # its length is the path
        except Refused as refused:
            refused.within(f"[{len(items)}]")
            raise
        return items

    def _key(self, key: object, depth: int) -> object:
        if key != key:  # noqa: PLR0124  # NaN, also numpy's and decimal's
            raise Refused("has the key NaN, which no look-up would find again. Use None or a string")
        self._hashing += 1
        try:
            return self.walk(key, depth + 1)
        except Refused as refused:
            raise Refused(f"has the key {shown(key)}, which {refused.reason}") from None
        finally:
            self._hashing -= 1

    def enter(self, depth: int) -> None:
        """Count a container at `depth`."""
        self._containers += 1
        if depth >= MAX_DEPTH:
            raise Refused(f"is nested deeper than {MAX_DEPTH} levels (does it contain itself?)")
        if self._containers > MAX_CONTAINERS:
            raise Refused(f"is beyond the {MAX_CONTAINERS:,} containers that one value may hold")

    def enter_unhashable(self, what: str, depth: int) -> None:
        """Count a container that cannot be an element of a set or a key."""
        self.enter(depth)
        if self._hashing:
            raise Refused(f"is stored as a {what}, which cannot be in a set or a dict key. Use a list")

    # --- single values that need an extension ------------------------------------------------

    def _datetime(self, value: dt.datetime, _depth: int) -> object:
        if value != value or getattr(value, "nanosecond", None):  # noqa: PLR0124  # pandas' NaT
            raise Refused("has nanoseconds or is no time (NaT). Pass .to_pydatetime() or .isoformat()")
        return Ext(extensions.DATETIME, moment_text(value).encode())

    def _date(self, value: dt.date, _depth: int) -> object:
        return Ext(extensions.DATE, value.isoformat().encode())

    def _time(self, value: dt.time, _depth: int) -> object:
        return Ext(extensions.TIME, moment_text(value).encode())

    def _timedelta(self, value: dt.timedelta, _depth: int) -> object:
        if value != value or getattr(value, "nanoseconds", None):  # noqa: PLR0124  # pandas' NaT
            raise Refused("has nanoseconds or is no time (NaT). Pass .to_pytimedelta() or seconds")
        packed = _TIMEDELTA.pack(value.days, value.seconds, value.microseconds)
        return Ext(extensions.TIMEDELTA, packed)

    def _decimal(self, value: decimal.Decimal, _depth: int) -> object:
        text = decimal.Decimal.__str__(value)
        if len(text) > MAX_DECIMAL_CHARS:
            raise Refused(f"is a Decimal of {len(text):,} digits; at most {MAX_DECIMAL_CHARS:,} are stored")
        return Ext(extensions.DECIMAL, text.encode())

    def _uuid(self, value: uuid.UUID, _depth: int) -> object:
        return Ext(extensions.UUID, value.bytes)

    def _path(self, value: pathlib.PurePath, _depth: int) -> object:
        return Ext(extensions.PATH, _path_kind(value) + os.fsencode(value))

    def _complex(self, value: complex, _depth: int) -> object:
        return Ext(extensions.COMPLEX, _COMPLEX.pack(value.real, value.imag))

    def _bytearray(self, value: bytearray, _depth: int) -> object:
        return Ext(extensions.BYTEARRAY, bytes(value))

    def _memoryview(self, value: memoryview, _depth: int) -> object:
        if value.format != "B" or value.ndim != 1:
            raise Refused("is a memoryview of something other than bytes. Pass its .tobytes()")
        return Ext(extensions.MEMORYVIEW, value.tobytes())

    def inputs(self, value: Inputs, _depth: int) -> object:
        """Return what stands for the results of other jobs."""
        return Ext(extensions.INPUTS, value.packed())

    # --- everything else ----------------------------------------------------------------------

    def _other(self, value: Any, depth: int) -> object:
        own = self._own.of(type(value))
        if own is not None:
            return self._own_type(own, value, depth)
        if arrays.is_array(value):
            return self.array(value, depth)
        if isinstance(value, Enum) or getattr(type(value), "__pydantic_root_model__", False):
            return self.walk(value.value if isinstance(value, Enum) else value.root, depth)
        if not isinstance(value, type) and (fields := fields_of(value)) is not None:
            return self._fields(fields, depth)
        return self._by_base(value, depth)

    def _own_type(self, own: OwnType, value: object, depth: int) -> object:
        self.enter(depth)
        hashing, self._hashing = self._hashing, 0  # what its parts are does not show outside
        parts = self.walk(own.parts(value), depth + 1)
        self._hashing = hashing
        return Ext(extensions.OWN, ENCODER.encode([own.tag, parts]))

    def array(self, value: object, _depth: int) -> object:
        """Return a NumPy array or scalar as an extension."""
        try:
            return Ext(extensions.ARRAY, arrays.to_bytes(value))
        except arrays.UnfitArrayError as unfit:
            raise Refused(str(unfit)) from None

    def _fields(self, fields: dict[str, object] | list[object], depth: int) -> object:
        self.enter_unhashable("mapping", depth)
        if isinstance(fields, list):
            return self.items(fields, depth)
        return self.mapping(((name, item, f".{name}") for name, item in fields.items()), depth)

    def _by_base(self, value: object, depth: int) -> object:
        for base in type(value).__mro__:
            handler = self.handlers.get(base)
            if handler is not None:
                return handler(self, value, depth)
        if self._allow_pickle:
            return self._pickle(value)
        raise Refused(refusal_of(value))

    def _pickle(self, value: object) -> object:
        import pickle  # only where allow_pickle and a signing key are set

        try:
            data = pickle.dumps(value, protocol=5)
        except Exception as error:  # a __reduce__ may raise anything
            raise Refused(f"{refusal_of(value)} (pickle refused it too: {error})") from error
        self.wrote_pickle = True
        return Ext(extensions.PICKLE, data)

    handlers: ClassVar[dict[type, Callable[[Any, Any, int], object]]] = {
        type(None): _as_it_is,
        bool: _as_it_is,
        int: _int,
        float: _float,
        str: _text,
        bytes: _bytes,
        list: _list,
        dict: _dict,
        tuple: _tuple,
        set: _set,
        frozenset: _frozenset,
        dt.datetime: _datetime,
        dt.date: _date,
        dt.time: _time,
        dt.timedelta: _timedelta,
        decimal.Decimal: _decimal,
        uuid.UUID: _uuid,
        pathlib.PurePath: _path,
        complex: _complex,
        bytearray: _bytearray,
        memoryview: _memoryview,
        Inputs: inputs,
    }


def _path_kind(path: pathlib.PurePath) -> bytes:
    if isinstance(path, pathlib.Path):
        return b"/"
    return b"w" if isinstance(path, pathlib.PureWindowsPath) else b"p"


def _refuse_surrogates(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Refused(
            f"is text with the lone surrogate {text[error.start]!r} at {error.start}, which is no "
            'character. Pass bytes, or text.encode("utf-8", "replace").decode()'
        ) from None
