"""How the traffic is split now: the share of the new side, and whether the old one is closed. Pure."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from cicely.errors import ConfigError, UsageError

#: The first of the stored fields; a record of a newer form is refused.
_FORMAT = 1


class Phase(StrEnum):
    """How far a migration is: jobs are split; the old side takes no more; it is out of use."""

    SPLIT = "split"
    DRAINING = "draining"
    FINISHED = "finished"


class Traffic(msgspec.Struct, frozen=True):
    """The share of the new side in percent, and the phase."""

    percent: float = 0.0
    phase: Phase = Phase.SPLIT
    form: int = _FORMAT

    def encoded(self) -> bytes:
        """Return it as it is stored."""
        return msgspec.json.encode(self)

    def split(self, percent: float) -> Traffic:
        """Return it with another share; draining is called off. Raises UsageError when it is finished."""
        if self.phase is Phase.FINISHED:
            raise UsageError(
                "the migration is finished, and its old side out of use: begin one of another name"
            )
        return Traffic(percent_of(percent))

    def draining(self) -> Traffic:
        """Return it with the old side closed."""
        return self if self.phase is Phase.FINISHED else Traffic(100.0, Phase.DRAINING)

    def finished(self) -> Traffic:
        """Return it with the old side out of use. Raises UsageError unless it was drained."""
        if self.phase is Phase.SPLIT:
            raise UsageError(
                f"the old side still accepts jobs ({self.percent:g} % go to the new): drain() it first"
            )
        return Traffic(100.0, Phase.FINISHED)


class Unreadable(ConfigError):
    """What is stored as a share is none."""


def decoded(data: bytes) -> Traffic:
    """Return what `encoded` wrote. Raises Unreadable for anything else, ConfigError for a newer form."""
    try:
        traffic = msgspec.json.decode(data, type=Traffic)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise Unreadable(
            f"the stored share {data[:80]!r} cannot be read ({error}): set it again with `cicely traffic set`"
        ) from error
    if traffic.form != _FORMAT:
        raise ConfigError(
            f"the share was stored by a newer Cicely (form {traffic.form}): upgrade this process"
        )
    return traffic


def replaced(data: bytes, percent: float) -> Traffic:
    """Return the stored split with another share; one that cannot be read is replaced whole."""
    try:
        before = decoded(data)
    except Unreadable:
        before = Traffic()
    return before.split(percent)


def percent_of(value: object) -> float:
    """Return a share in percent, or raise ConfigError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:  # noqa: PLR2004
        raise ConfigError(f"percent={value!r}: the share of the new side, a number from 0 to 100")
    return float(value)
