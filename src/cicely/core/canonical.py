"""Values → bytes that are equal wherever the values are: what stable ids and unique keys are made of."""

from __future__ import annotations

import datetime as dt
import decimal
import math
from collections.abc import Iterable
from itertools import chain
from typing import Any, Final

from msgspec.msgpack import Ext

from cicely.core.values import arrays, extensions
from cicely.core.values.inputs import Inputs
from cicely.core.values.own import OwnTypes
from cicely.core.values.refusal import Refused
from cicely.core.values.writer import ENCODER, Writer
from cicely.errors import NotStorable

NO_TYPES: Final = OwnTypes()


def canonical(value: object, *, own: OwnTypes = NO_TYPES, where: str = "value") -> bytes:
    """Return the same bytes in every process and release for equal values of equal types.

    The order of dict keys and of set elements does not show, nor does a set's being frozen, a moment's
    time zone, a Decimal's trailing zeros or an array's byte order. ``1``, ``1.0`` and ``True`` are three
    values, and so are a list and a tuple. Dataclasses and models are the mapping of their fields. The bytes
    are for comparing and hashing, not for decoding. Raises NotStorable.
    """
    try:
        return _CanonicalWriter(own, allow_pickle=False).bytes_of(value)
    except Refused as refused:
        place = f"{where}: {refused.path}" if refused.path else where
        raise NotStorable(f"{place} {refused.reason}") from refused.__cause__


class _CanonicalWriter(Writer):
    def _float(self, value: float, _depth: int) -> object:
        # Equal zeros have different signs; NaNs have different bits.
        return math.nan if math.isnan(value) else float.__float__(value) + 0.0

    def _bytes_like(self, value: bytes | bytearray | memoryview, _depth: int) -> object:
        return bytes(value)

    def _list(self, value: list[object], depth: int) -> object:
        self.enter_unhashable("list", depth)
        return self.items(value, depth)

    def _dict(self, value: dict[object, object], depth: int) -> object:
        self.enter_unhashable("dict", depth)
        pairs = sorted(self.pairs(value, depth), key=lambda pair: ENCODER.encode(pair[0]))
        return Ext(extensions.PAIRS, ENCODER.encode([*chain.from_iterable(pairs)]))

    def _set(self, value: Iterable[object], depth: int) -> object:
        self.enter(depth)
        return Ext(extensions.SET, ENCODER.encode(sorted(self.elements(value, depth), key=ENCODER.encode)))

    def _datetime(self, value: dt.datetime, depth: int) -> object:
        if value.utcoffset() is not None and dt.MINYEAR < value.year < dt.MAXYEAR:
            value = value.astimezone(dt.UTC)
        return super()._datetime(value.replace(fold=0), depth)

    def _decimal(self, value: decimal.Decimal, depth: int) -> object:
        sign, digits, exponent = value.as_tuple()
        if isinstance(exponent, str):  # an infinity or NaN
            return super()._decimal(value, depth)
        significant = "".join(map(str, digits)).rstrip("0").lstrip("0")
        shift = len(digits) - len("".join(map(str, digits)).rstrip("0"))
        text = f"{'-' if sign else ''}{significant}E{exponent + shift}" if significant else "0"
        return Ext(extensions.DECIMAL, text.encode())

    def _complex(self, value: complex, depth: int) -> object:
        return super()._complex(complex(value.real + 0.0, value.imag + 0.0), depth)

    def array(self, value: Any, depth: int) -> object:
        item = arrays.scalar_item(value)
        if not arrays.is_array(item):
            return self.walk(item, depth)
        return super().array(arrays.little_endian(value), depth)

    def inputs(self, _value: object, _depth: int) -> object:
        raise Refused("is the result of another job, which is not there yet")

    def _fields(self, fields: dict[Any, object] | list[object], depth: int) -> object:
        return self._list(fields, depth) if isinstance(fields, list) else self._dict(fields, depth)

    handlers = Writer.handlers | {
        float: _float,
        bytes: _bytes_like,
        bytearray: _bytes_like,
        memoryview: _bytes_like,
        list: _list,
        dict: _dict,
        set: _set,
        frozenset: _set,
        dt.datetime: _datetime,
        decimal.Decimal: _decimal,
        complex: _complex,
        Inputs: inputs,
    }
