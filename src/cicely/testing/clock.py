"""A clock that moves only when told to, for tests in virtual time."""

from __future__ import annotations

import msgspec

#: 2030-01-01T00:00:00Z: late enough that no test depends on the day it runs.
START_AT = 1_893_456_000.0


class VirtualClock(msgspec.Struct):
    """Unix seconds that stand still; hand `clock.now` to an engine."""

    at: float = START_AT

    def now(self) -> float:
        """Return the instant it shows."""
        return self.at

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass; a negative number is a step backwards."""
        self.at += seconds
