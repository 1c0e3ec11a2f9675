"""What was said lately need not be said again: an outage fills no disk with one sentence."""

from __future__ import annotations

from typing import Final

QUIET_S: Final = 30.0


class Repeats:
    """Which sentences were said within the last `quiet_s` seconds."""

    def __init__(self, *, quiet_s: float = QUIET_S) -> None:
        self._quiet_s = quiet_s
        self._said_at: dict[str, float] = {}

    def is_due(self, sentence: str, now: float) -> bool:
        """Return whether to say it, and note that it is said. What is older than `quiet_s` is forgotten."""
        self._said_at = {said: at for said, at in self._said_at.items() if now - at < self._quiet_s}
        if sentence in self._said_at:
            return False
        self._said_at[sentence] = now
        return True
