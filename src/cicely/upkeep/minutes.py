"""What one process saw of its engine, minute by minute, until it can report it there."""

from __future__ import annotations

from typing import Final

from cicely.core.rollup import Count, Word

#: Two signs of life are noted so far apart at least, and so far apart at most: any minute has one.
EVERY_S: Final = 20.0

#: A worker reports so often.
REPORT_S: Final = 60.0

#: As long as an engine is away nothing can be reported; that nothing was is telling as well.
_MOST: Final = 500


class Troubles:
    """When calls failed, by a clock of the caller's that never stops. Threads may share it."""

    def __init__(self) -> None:
        self._noted: list[list[float]] = []
        self._counted = 0

    def __bool__(self) -> bool:
        """Whether there is something to report."""
        return bool(self._noted)

    def failed(self, now: float) -> None:
        """Note that a call to the engine failed."""
        if self._noted and now - self._noted[-1][0] < EVERY_S:
            self._noted[-1][1] += 1
        else:
            self._noted.append([now, 1])
            del self._noted[:-_MOST]

    def counts(self, now: float) -> list[Count]:
        """Return what is to be reported."""
        noted = list(self._noted)
        self._counted = len(noted)
        return [Count(Word.ENGINE_ERRORS, int(count), ago_s=now - at) for at, count in noted]

    def reported(self) -> None:
        """Forget what was counted; what another thread noted since is kept."""
        del self._noted[: self._counted]
        self._counted = 0


class Minutes:
    """When beats were acknowledged and calls failed, by a clock of the caller's that never stops."""

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._beats: list[float] = []
        self._troubles = Troubles()
        self._beat_at = 0.0

    def beaten(self, now: float) -> None:
        """Note that a beat was acknowledged: this worker was up since the last, if that held so long."""
        at = self._beat_at if 0 < now - self._beat_at <= self._lease_s else now
        while at < now - EVERY_S:
            at += EVERY_S
            self._note_beat(at)
        self._note_beat(now)
        self._beat_at = now

    def _note_beat(self, at: float) -> None:
        if not self._beats or at - self._beats[-1] >= EVERY_S:
            self._beats.append(at)
            del self._beats[:-_MOST]

    def failed(self, now: float) -> None:
        """Note that a call to the engine failed."""
        self._troubles.failed(now)

    def counts(self, now: float) -> list[Count]:
        """Return what is to be reported."""
        return [Count(Word.BEATS, ago_s=now - at) for at in self._beats] + self._troubles.counts(now)

    def reported(self) -> None:
        """Forget what was reported."""
        self._beats.clear()
        self._troubles.reported()
