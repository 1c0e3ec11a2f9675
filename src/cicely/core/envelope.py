"""The two bytes, the signature and the compression around an encoded value.

::

    unsigned   version · flags · body
    signed     version · flags · key id (4) · HMAC-SHA256 (32) · body
    body       compressed: length before compression (4, big-endian) · zlib stream

The signature covers everything but itself, and is checked before anything is decompressed or read.
"""

from __future__ import annotations

import hmac
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from cicely.errors import ConfigError, Malformed

VERSION: Final = 1

SIGNED: Final = 1
COMPRESSED: Final = 2
EXTENDED: Final = 4  # the body holds extensions
PICKLED: Final = 8  # … one of them a pickle
CALL: Final = 16  # the body is the arguments of a call: a tuple and a dict of names

COMPRESS_ABOVE_BYTES: Final = 16 * 1024
MAX_RATIO: Final = 100
MAX_DECOMPRESSED_BYTES: Final = 64 * 1024 * 1024

#: Flags that speak of the envelope and not of the value in it.
ENVELOPE_FLAGS: Final = SIGNED | COMPRESSED
_KNOWN_FLAGS: Final = SIGNED | COMPRESSED | EXTENDED | PICKLED | CALL
_HEADER_BYTES: Final = 2
_KEY_ID_BYTES: Final = 4
_MAC_BYTES: Final = 32
_LENGTH_BYTES: Final = 4
_MIN_KEY_BYTES: Final = 16
_SAMPLE_BYTES: Final = 8 * 1024
_WORTH_IT: Final = 0.9


@dataclass(frozen=True, slots=True)
class Ring:
    """The signing keys by their ids: the first one signs, all of them verify."""

    signing_id: bytes
    keys: dict[bytes, bytes]

    @classmethod
    def of(cls, keys: Sequence[bytes]) -> Ring | None:
        """Return the ring of `keys`, or None when there are none."""
        if isinstance(keys, str | bytes):
            raise ConfigError("the signing keys are a list of bytes, the newest first, not one key")
        for key in keys:
            if not isinstance(key, bytes) or len(key) < _MIN_KEY_BYTES:
                raise ConfigError(
                    f"a signing key is at least {_MIN_KEY_BYTES} bytes; secrets.token_bytes(32) makes one"
                )
        by_id = {_key_id(key): key for key in keys}
        return cls(next(iter(by_id)), by_id) if by_id else None

    def sign(self, header: bytes, body: bytes) -> bytes:
        """Return the envelope of `body`, signed."""
        signed_header = header + self.signing_id
        mac = _mac(self.keys[self.signing_id], signed_header, body)
        return b"".join((signed_header, mac, body))

    def verify(self, data: bytes) -> memoryview:
        """Return the body of a signed envelope; raise Malformed unless one of the keys signed it."""
        key_id = data[_HEADER_BYTES : _HEADER_BYTES + _KEY_ID_BYTES]
        key = self.keys.get(key_id)
        if key is None:
            raise Malformed(f"it was signed with the key {key_id.hex()}, which this process does not have")
        start = _HEADER_BYTES + _KEY_ID_BYTES
        body = memoryview(data)[start + _MAC_BYTES :]
        if not hmac.compare_digest(data[start : start + _MAC_BYTES], _mac(key, data[:start], body)):
            raise Malformed(f"its signature does not fit its content (key {key_id.hex()})")
        return body


def _key_id(key: bytes) -> bytes:
    return sha256(b"cicely key id\0" + key).digest()[:_KEY_ID_BYTES]


def _mac(key: bytes, header: bytes, body: bytes | memoryview) -> bytes:
    mac = hmac.new(key, header, sha256)
    mac.update(body)
    return mac.digest()


def seal(body: bytes, flags: int, ring: Ring | None) -> bytes:
    """Return `body` in its envelope: compressed where that helps, signed where there are keys."""
    if len(body) > COMPRESS_ABOVE_BYTES:
        compressed = _compressed(body)
        if compressed is not None:
            body, flags = compressed, flags | COMPRESSED
    if ring is None:
        return bytes((VERSION, flags)) + body
    return ring.sign(bytes((VERSION, flags | SIGNED)), body)


def unseal(data: bytes, ring: Ring | None) -> tuple[int, memoryview | bytes]:
    """Return the flags and the body. Raises Malformed for whatever `seal` cannot have written."""
    flags = _checked_flags(data)
    if ring is not None and not flags & SIGNED:
        raise Malformed("it is not signed, and this process has signing keys")
    if ring is None and flags & SIGNED:
        raise Malformed("it is signed, and this process has no keys to verify it; set keys=")
    body = ring.verify(data) if ring is not None else memoryview(data)[_HEADER_BYTES:]
    return flags, _decompressed(body) if flags & COMPRESSED else body


def _checked_flags(data: bytes) -> int:
    if len(data) < _HEADER_BYTES:
        raise Malformed(f"it has {len(data)} bytes, too few for a header")
    if data[0] > VERSION:
        raise Malformed(
            f"it has the format version {data[0]}, and this Cicely reads up to {VERSION}; "
            "a newer Cicely wrote it, or the bytes were changed"
        )
    if data[0] != VERSION or data[1] & ~_KNOWN_FLAGS:
        raise Malformed(f"it begins with {data[:_HEADER_BYTES].hex()}, which is no header of Cicely's")
    return data[1]


def _compressed(body: bytes) -> bytes | None:
    """Return `body` compressed, or None where that saves too little, or more than may be read back."""
    if len(body) > MAX_DECOMPRESSED_BYTES:
        return None
    sample = body[:_SAMPLE_BYTES]
    if len(zlib.compress(sample, 1)) > _WORTH_IT * len(sample):
        return None
    stream = zlib.compress(body, 1)
    if len(stream) > _WORTH_IT * len(body) or len(stream) * MAX_RATIO < len(body):
        return None
    return len(body).to_bytes(_LENGTH_BYTES, "big") + stream


def _decompressed(body: memoryview) -> bytes:
    length = int.from_bytes(body[:_LENGTH_BYTES], "big")
    stream = body[_LENGTH_BYTES:]
    if length > MAX_DECOMPRESSED_BYTES or length > MAX_RATIO * len(stream):
        raise Malformed(f"its {len(stream):,} compressed bytes claim to hold {length:,}")
    inflater = zlib.decompressobj()
    try:
        inflated = inflater.decompress(stream, length + 1)
    except zlib.error as error:
        raise Malformed(f"its compressed bytes are damaged: {error}") from error
    if len(inflated) != length or not inflater.eof or inflater.unused_data:
        raise Malformed(f"its compressed bytes do not hold the {length:,} that they claim")
    return inflated
