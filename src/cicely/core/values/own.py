"""Types of the user's own, registered with ``app.codec(type, encode, decode, tag=)``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cicely.core.values.refusal import Refused
from cicely.errors import ConfigError, Malformed


@dataclass(frozen=True, slots=True)
class OwnType:
    """A registered type: its tag on the wire and the functions between it and plain values."""

    tag: str
    type: type
    encode: Callable[[Any], object]
    decode: Callable[[Any], object]

    def parts(self, value: object) -> object:
        """Return what the user's function makes of `value`."""
        try:
            return self.encode(value)
        except Exception as error:
            raise Refused(f"was refused by the codec {self.tag!r}: {_sentence(error)}") from error

    def whole(self, parts: object) -> object:
        """Return what the user's function makes of `parts`, whatever they are."""
        try:
            return self.decode(parts)
        except Exception as error:
            raise Malformed(f"the codec {self.tag!r} refused its data: {_sentence(error)}") from error


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


@dataclass(slots=True)
class OwnTypes:
    """The registered types, by type when writing and by tag when reading."""

    _by_type: dict[type, OwnType] = field(default_factory=dict)
    _by_tag: dict[str, OwnType] = field(default_factory=dict)

    def add(self, own: OwnType) -> None:
        """Register `own`; repeating the same registration is harmless, another is an error."""
        for known in (self._by_tag.get(own.tag), self._by_type.get(own.type)):
            if known is not None and (known.tag, known.type) != (own.tag, own.type):
                raise ConfigError(
                    f"the codec {own.tag!r} for {own.type.__qualname__} collides with "
                    f"{known.tag!r} for {known.type.__qualname__}; give each type one tag"
                )
        self._by_tag[own.tag] = self._by_type[own.type] = own

    def of(self, type_: type) -> OwnType | None:
        """Return the registration of `type_` or of its nearest registered base."""
        if not self._by_type:
            return None
        return next(filter(None, map(self._by_type.get, type_.__mro__)), None)

    def tagged(self, tag: object) -> OwnType:
        """Return the registration behind a message's tag."""
        own = self._by_tag.get(tag) if isinstance(tag, str) else None
        if own is None:
            raise Malformed(
                f"no type is registered under the tag {tag!r} here; "
                "call app.codec(type, encode, decode, tag=) in the module of the app"
            )
        return own
