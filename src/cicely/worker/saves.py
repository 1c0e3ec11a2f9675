"""What running attempts leave with the engine: what is to be kept at once, progress now and then."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Final

from cicely.engines.contract import Save

PROGRESS_S: Final = 0.2


class Keep:
    """A checkpoint or a step on its way, and whether its claim still held when it arrived."""

    def __init__(self, save: Save) -> None:
        self.save = save
        self.done = threading.Event()
        self.held = False


class Saves:
    """Filled by whoever runs attempts, emptied by the exchange."""

    def __init__(self) -> None:
        self.progress: dict[bytes, Save] = {}
        self.kept: deque[Keep] = deque()
        self._progress_at = 0.0

    def report(self, token: bytes, progress: bytes) -> None:
        """Take progress in place of what the same attempt reported before."""
        self.progress[token] = Save(token, progress=progress)

    def keep(self, save: Save) -> Keep:
        """Take a checkpoint or a step."""
        waiting = Keep(save)
        self.kept.append(waiting)
        return waiting

    def forget(self, token: bytes) -> None:
        """Drop the progress of an attempt that has ended."""
        self.progress.pop(token, None)

    def progress_due_in_s(self) -> float:
        """Return how long progress may still wait: not at all at 0 and below."""
        return self._progress_at + PROGRESS_S - time.monotonic()

    def due(self) -> list[Save]:
        """Return what is to be saved now: what is to be kept, which stays until answered, then progress."""
        saves = [self.kept[i].save for i in range(len(self.kept))]
        if self.progress and self.progress_due_in_s() <= 0:
            saves += [self.progress.pop(token) for token in list(self.progress)]
            self._progress_at = time.monotonic()
        return saves

    def note(self, saves: Sequence[Save], held: Sequence[bool]) -> tuple[bytes, ...]:
        """Take the engine's answer to what was due; return the tokens that no longer hold."""
        for save, is_held in zip(saves, held, strict=True):
            if save.progress is None:
                waiting = self.kept.popleft()
                waiting.held = is_held
                waiting.done.set()
        return tuple(save.token for save, is_held in zip(saves, held, strict=True) if not is_held)
