"""When a worker may start another child, after some could not work."""

from __future__ import annotations

from typing import Final

FORK_AGAIN_S: Final = 0.25
RESTART_S: Final = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)


class Restarts:
    """`excuse` is why the last child could not work, "" once one does. `now`: a clock that never stops."""

    def __init__(self) -> None:
        self.excuse = ""
        self._failures = 0
        self._not_before = 0.0

    def may_start(self, now: float) -> bool:
        """Return whether the pause after the last failure is over."""
        return now >= self._not_before

    def note_birth(self) -> None:
        """Note a child that works."""
        self.excuse = ""
        self._failures = 0

    def note_refusal(self, now: float) -> None:
        """Note that no process could be forked."""
        self._not_before = now + FORK_AGAIN_S

    def note_failure(self, excuse: str, now: float) -> None:
        """Note a child that cannot work: the more in a row, the longer the pause."""
        self.excuse = excuse
        self._not_before = now + RESTART_S[min(self._failures, len(RESTART_S) - 1)]
        self._failures += 1
