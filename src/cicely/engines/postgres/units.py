"""What claims have of workers, as it is stored; what was edited by hand counts as nothing."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec

_decode: Final = msgspec.msgpack.Decoder(dict[str, dict[str, float]]).decode
_decode_names: Final = msgspec.msgpack.Decoder(tuple[str, ...]).decode
_encode: Final = msgspec.msgpack.Encoder().encode


def units_in(stored: bytes | None) -> dict[str, dict[str, float]]:
    """Read which units stand somewhere."""
    if stored is None:
        return {}
    try:
        return _decode(stored)
    except (msgspec.DecodeError, TypeError):
        return {}


def names_in(stored: bytes | None) -> tuple[str, ...]:
    """Read the names of resources."""
    try:
        return () if stored is None else _decode_names(stored)
    except (msgspec.DecodeError, TypeError):
        return ()


def stored_names(names: Collection[str]) -> bytes | None:
    """Return the names of resources as they are stored; None for none."""
    return _encode(tuple(names)) if names else None
