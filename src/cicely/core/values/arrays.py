"""NumPy arrays and scalars ↔ dtype, shape and raw bytes. Imports NumPy only for a value that has one."""

from __future__ import annotations

import math
import re
import sys
from typing import Any, Final

import msgspec

from cicely.errors import Malformed

# What may reach numpy.dtype() from a message: one simple kind, so that neither objects nor
# expressions such as "2i,3f" do.
_SIMPLE_DTYPE: Final = re.compile(r"[<>|][biufcSUVmM]\d{1,9}(\[\d{0,6}[A-Za-z]{1,2}\])?")


class UnfitArrayError(Exception):
    """An array cannot be stored; the text completes a sentence about it."""


class _Stored(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    dtype: str | list[Any]
    shape: tuple[int, ...]
    is_scalar: bool
    data: memoryview


_DECODER: Final = msgspec.msgpack.Decoder(_Stored)


def is_array(value: object) -> bool:
    """Return whether `value` is a NumPy array or scalar."""
    numpy: Any = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray | numpy.generic)


def scalar_item(value: Any) -> object:
    """Return a NumPy scalar as Python's own value; `value` itself where there is none without loss."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, numpy.generic) or value.dtype.kind in "mMV":
        return value
    return value.item()


def little_endian(value: Any) -> Any:
    """Return an array of equal values whose bytes do not depend on the machine."""
    return value.astype(value.dtype.newbyteorder("<"), copy=False)


def to_bytes(value: Any) -> bytes:
    """Return an array or scalar as bytes, in C order and in its own byte order."""
    numpy: Any = sys.modules["numpy"]
    is_scalar = isinstance(value, numpy.generic)
    if not is_scalar and type(value) not in (numpy.ndarray, numpy.memmap):
        raise UnfitArrayError(
            f"is a {type(value).__name__}, of which only the plain array would be kept. "
            "Pass numpy.asarray(...) of it"
        )
    array = numpy.asarray(value)
    stored = _Stored(_description(array.dtype), array.shape, is_scalar, memoryview(array.tobytes()))
    return msgspec.msgpack.encode(stored)


def from_bytes(data: memoryview) -> object:
    """Return the array or scalar that `to_bytes` wrote."""
    stored = _DECODER.decode(data)
    numpy = _numpy()
    dtype = _dtype(stored.dtype)
    if min(stored.shape, default=0) < 0 or math.prod(stored.shape) * dtype.itemsize != len(stored.data):
        raise Malformed(
            f"its stored array of shape {stored.shape} and dtype {dtype} has {len(stored.data)} bytes"
        )
    array = numpy.empty(stored.shape, dtype)
    if array.nbytes:
        # Copied, so that it may be written to and is aligned.
        array = numpy.frombuffer(bytearray(stored.data), dtype).reshape(stored.shape)
    return array[()] if stored.is_scalar else array


def _description(dtype: Any) -> str | list[Any]:
    if dtype.hasobject:
        raise UnfitArrayError("is an array of Python objects. Pass .tolist(), or a numeric dtype")
    description: str | list[Any] = dtype.str if dtype.names is None else dtype.descr
    if not _is_kept(dtype, description):
        raise UnfitArrayError(f"is an array of the dtype {dtype}, which has no portable description")
    return description


def _is_kept(dtype: Any, description: Any) -> bool:
    try:
        return bool(_dtype(description) == dtype)
    except (Malformed, TypeError, ValueError):
        return False


def _dtype(description: Any) -> Any:
    if isinstance(description, str):
        if not _SIMPLE_DTYPE.fullmatch(description):
            raise Malformed(f"its stored array has the unknown dtype {description[:40]!r}")
        return _numpy().dtype(description)
    from numpy.lib.format import descr_to_dtype

    return descr_to_dtype([_field(*field) for field in description])


def _field(name: Any, description: Any, shape: Any = ()) -> tuple[Any, ...]:
    inner = description if isinstance(description, str) else [_field(*field) for field in description]
    if isinstance(inner, str) and not _SIMPLE_DTYPE.fullmatch(inner):
        raise Malformed(f"its stored array has the unknown dtype {inner[:40]!r}")
    titled = tuple(name) if isinstance(name, list) else name
    return (titled, inner, tuple(shape)) if shape else (titled, inner)


def _numpy() -> Any:
    try:
        import numpy
    except ImportError as error:
        raise Malformed("its stored value has a NumPy array, and numpy is not installed here") from error
    return numpy
