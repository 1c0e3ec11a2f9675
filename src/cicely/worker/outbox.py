"""The outcomes of a child that are not with the engine yet."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from cicely.core.outcome import Outcome


class Outbox:
    """Filled by whoever runs attempts, emptied from its front by the exchange."""

    def __init__(self) -> None:
        #: Only ever appended to, copied whole and cut at its front: each is one step for other threads.
        self.outcomes: list[Outcome] = []
        #: When the oldest of them came, by the monotonic clock.
        self.oldest_at = 0.0
        #: Whether somebody waits until it is empty.
        self.is_wanted_empty = False
        self._is_closed = False
        self._emptied = threading.Condition()

    def add(self, outcome: Outcome) -> None:
        """Put an outcome at the end."""
        if not self.outcomes:
            self.oldest_at = time.monotonic()
        self.outcomes.append(outcome)

    def flush(self, wake: Callable[[], None]) -> None:
        """Wait until it is empty; `wake` wakes whoever empties it."""
        with self._emptied:
            while self.outcomes and not self._is_closed:
                self.is_wanted_empty = True
                wake()
                self._emptied.wait(1.0)

    def listed(self) -> list[Outcome]:
        """Return all outcomes, which stay where they are; more may come meanwhile."""
        return self.outcomes.copy()

    def remove(self, count: int) -> None:
        """Take so many off its front: they are with the engine."""
        del self.outcomes[:count]

    def note_removals(self) -> None:
        """Tell those who wait that outcomes have left its front."""
        with self._emptied:
            self.is_wanted_empty = bool(self.outcomes) and self.is_wanted_empty
            self._emptied.notify_all()

    def close(self) -> None:
        """Let everybody go who waits: nothing leaves it any more."""
        self._is_closed = True
        with self._emptied:
            self._emptied.notify_all()
