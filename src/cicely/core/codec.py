"""Arguments, results and messages ↔ bytes: what `delay` calls first and a child calls before it runs a job.

`Codec.encode_call` refuses, with the path to it, whatever would not come back as it went;
`Codec.decode_call` raises `Malformed`, and nothing else, for bytes that no codec wrote. How types are
written stands in `values`, the bytes around them in `envelope`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeGuard, TypeVar

import msgspec

from cicely.core import envelope
from cicely.core.canonical import canonical
from cicely.core.conversion import convert
from cicely.core.envelope import CALL, ENVELOPE_FLAGS, EXTENDED, PICKLED, VERSION, Ring, seal, unseal
from cicely.core.values.nesting import LEAVES, MAX_DEPTH, STR, check_depth, is_plain
from cicely.core.values.own import OwnType, OwnTypes
from cicely.core.values.reader import Reader
from cicely.core.values.refusal import Refused
from cicely.core.values.writer import ENCODER, Writer
from cicely.errors import ConfigError, Malformed, NotStorable

__all__ = ["Codec", "canonical", "convert"]

T = TypeVar("T")

DEFAULT_MAX_BYTES: Final = 16 * 1024 * 1024

_MEGABYTE: Final = 1024 * 1024
_PLAIN_HEADER: Final = bytes((VERSION, 0))
_CALL_HEADER: Final = bytes((VERSION, CALL))
_COPY_BELOW_BYTES: Final = 4096


def _refuse_extension(code: int, _data: memoryview) -> object:
    raise Malformed(f"its header announces no extensions, and it has one of the code {code}")


# What MessagePack cannot hold although `is_plain` let it pass: lone surrogates, integers beyond 64 bits.
_NOT_SO_PLAIN: Final = (UnicodeEncodeError, OverflowError)

_Call = tuple[tuple[Any, ...], dict[str, Any]]
_read_call: Final[Callable[[bytes], _Call]] = msgspec.msgpack.Decoder(
    _Call, ext_hook=_refuse_extension
).decode
_READ: Final[dict[bytes, Callable[[Any], Any]]] = {
    _PLAIN_HEADER: msgspec.msgpack.Decoder(ext_hook=_refuse_extension).decode,
    _CALL_HEADER: _read_call,
}


class Codec:
    """Encodes and decodes values. One per app; may be used by several threads at once."""

    def __init__(
        self, *, keys: Sequence[bytes] = (), allow_pickle: bool = False, max_bytes: int = DEFAULT_MAX_BYTES
    ) -> None:
        """`keys` sign and verify: the first one signs, the others are those of before a rotation.

        With keys, unsigned messages are refused. `allow_pickle` needs keys, because whoever can write
        a pickle into the engine can run code wherever it is read.
        """
        self._ring = Ring.of(keys)
        if allow_pickle and self._ring is None:
            raise ConfigError("allow_pickle=True needs a signing key: set keys=[secrets.token_bytes(32)]")
        if max_bytes <= 0:
            raise ConfigError(f"max_bytes is {max_bytes}; it must be positive")
        self._allow_pickle = allow_pickle
        self._max_bytes = max_bytes
        self._small_bytes = min(max_bytes - len(_CALL_HEADER), envelope.COMPRESS_ABOVE_BYTES)
        self.own = OwnTypes()

    def register(
        self, type_: type[T], encode: Callable[[T], object], decode: Callable[[Any], T], *, tag: str
    ) -> None:
        """Store values of `type_` and its subclasses as what `encode` returns, under `tag`.

        The tag is what stands in the engine: keep it when the class is renamed or moved.
        """
        if not isinstance(type_, type) or type_ is object:
            raise ConfigError(f"app.codec needs a class of your own, not {type_!r}")
        if type_ in Writer.handlers:
            raise ConfigError(f"{type_.__qualname__} is stored as it is; app.codec is for types of your own")
        if not tag or not isinstance(tag, str) or not tag.isprintable():
            raise ConfigError(f"the tag of {type_.__qualname__} is {tag!r}; it must be a printable text")
        self.own.add(OwnType(tag, type_, encode, decode))

    def encode_call(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, where: str) -> bytes:
        """Return the arguments of a call as bytes; `where` is the task's name.

        Raises NotStorable: "argument 2 of evals.run: ['rows'][3] is a lambda…".
        """
        if not _is_flat(args, kwargs) and not is_plain([list(args), kwargs]):
            return self._encode_rich_call(args, kwargs, where)
        try:
            body = ENCODER.encode((args, kwargs))
        except _NOT_SO_PLAIN:
            return self._encode_rich_call(args, kwargs, where)
        if self._ring is None and len(body) <= self._small_bytes:
            return _CALL_HEADER + body
        return self._sealed(body, CALL, f"what is passed to {where}")

    def decode_call(self, data: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments that `encode_call` took."""
        if len(data) <= MAX_DEPTH and self._ring is None and data.startswith(_CALL_HEADER):
            # Most calls are so short that nothing in them can be nested too deeply.
            try:
                return _read_call(data[2:])
            except (Malformed, MemoryError):
                raise
            except Exception as error:
                raise _unreadable(error) from error
        call = self.decode(data)
        if _is_call(call):
            return call
        raise Malformed("it holds a value and not the arguments of a call")

    def encode(self, value: object, *, where: str = "value") -> bytes:
        """Return `value` as bytes; `where` begins the sentence of a refusal."""
        is_call = _is_call(value) and _is_flat(*value)
        if not is_call and not is_plain(value):
            return self._encode_rich(value, where)
        try:
            body = ENCODER.encode(value)
        except _NOT_SO_PLAIN:
            return self._encode_rich(value, where)
        if self._ring is None and len(body) <= self._small_bytes:
            return (_CALL_HEADER if is_call else _PLAIN_HEADER) + body
        return self._sealed(body, CALL if is_call else 0, where)

    def decode(self, data: bytes) -> Any:
        """Return the value in `data`. Raises Malformed for bytes that `encode` cannot have written."""
        read = _READ.get(data[:2]) if self._ring is None else None
        try:
            if read is None:
                return self._decode_sealed(data)
            body = data[2:] if len(data) < _COPY_BELOW_BYTES else memoryview(data)[2:]
            value = read(body)
            if len(body) > MAX_DEPTH:
                check_depth(value, body)
        except (Malformed, MemoryError):
            raise
        except Exception as error:
            # Hostile bytes reach the constructors of a dozen types; what they raise is all one here.
            raise _unreadable(error) from error
        return value

    def unsigned(self, data: bytes) -> bytes:
        """Return the same value in an envelope that can be read without keys. Raises Malformed."""
        flags, body = unseal(data, self._ring)
        return seal(bytes(body), flags & ~ENVELOPE_FLAGS, None)

    def signed(self, data: bytes) -> bytes:
        """Return what `unsigned` made in an envelope as `encode` makes it. Raises Malformed."""
        flags, body = unseal(data, None)
        return seal(bytes(body), flags & ~ENVELOPE_FLAGS, self._ring)

    def forget_keys(self) -> None:
        """Read and write unsigned envelopes from here on: in a process that must not hold keys."""
        self._ring = None

    def _encode_rich_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], where: str) -> bytes:
        writer = self._writer()
        place = ""
        try:
            positional = []
            for number, value in enumerate(args, 1):
                place = f"argument {number} of {where}"
                positional.append(writer.walk(value, 2))
            named = {}
            for name, value in kwargs.items():
                place = f"argument {name!r} of {where}"
                named[writer.name(name)] = writer.walk(value, 2)
        except Refused as refused:
            raise _not_storable(place, refused) from refused.__cause__
        body = ENCODER.encode((positional, named))
        return self._sealed(body, CALL | _flags_of(writer), f"what is passed to {where}")

    def _encode_rich(self, value: object, where: str) -> bytes:
        writer = self._writer()
        try:
            body = writer.bytes_of(value)
        except Refused as refused:
            raise _not_storable(where, refused) from refused.__cause__
        return self._sealed(body, _flags_of(writer), where)

    def _writer(self) -> Writer:
        return Writer(self.own, allow_pickle=self._allow_pickle)

    def _sealed(self, body: bytes, flags: int, where: str) -> bytes:
        data = seal(body, flags, self._ring)
        if len(data) > self._max_bytes:
            raise NotStorable(
                f"{where} is {len(data) / _MEGABYTE:.1f} MB; at most {self._max_bytes / _MEGABYTE:.1f} MB "
                "are stored in the engine. Put it in a file or an object store and pass its address, "
                "or set blobs="
            )
        return data

    def _decode_sealed(self, data: bytes) -> Any:
        flags, body = unseal(data, self._ring)
        if flags & PICKLED and not self._allow_pickle:
            raise Malformed("it holds a pickle, and allow_pickle is off")
        hook: Callable[[int, memoryview], object] = _refuse_extension
        if flags & EXTENDED:
            hook = Reader(self.own, allow_pickle=self._allow_pickle and bool(flags & PICKLED)).rebuild
        value = msgspec.msgpack.decode(body, type=_Call if flags & CALL else Any, ext_hook=hook)
        check_depth(value, body)
        return value


def _unreadable(error: Exception) -> Malformed:
    return Malformed(f"its bytes cannot be read: {type(error).__name__}: {error}")


def _is_call(value: object) -> TypeGuard[tuple[tuple[Any, ...], dict[str, Any]]]:
    return (
        type(value) is tuple
        and len(value) == 2  # noqa: PLR2004  # positional and named
        and type(value[0]) is tuple
        and type(value[1]) is dict
    )


def _is_flat(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return (
        LEAVES.issuperset(map(type, args))
        and LEAVES.issuperset(map(type, kwargs.values()))
        and STR.issuperset(map(type, kwargs))
    )


def _flags_of(writer: Writer) -> int:
    return EXTENDED | PICKLED if writer.wrote_pickle else EXTENDED


def _not_storable(where: str, refused: Refused) -> NotStorable:
    place = f"{where}: {refused.path}" if refused.path else where
    return NotStorable(f"{place} {refused.reason}")
