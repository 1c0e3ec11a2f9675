"""How many children a worker has: as many as it was told, or as the backlog wants."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Final

from cicely.core.scaling import Backlog, Governor, ScaleRule
from cicely.engines.contract import Engine
from cicely.observe.backlog import backlog_at

LOOK_AT_BACKLOG_S: Final = 1.0
#: A look that takes long is repeated only after so many times as long.
_REST_PER_LOOK: Final = 20.0


class Scaler:
    """Says how many children there should be. The backlog is looked at by another thread, the keeper's."""

    def __init__(self, rule: ScaleRule, *, worker: str) -> None:
        self.processes = rule.least
        self._rule = rule
        self._worker = worker
        self._governor = Governor(rule)
        self._backlog: Backlog | None = None
        self._look_at = 0.0
        self._pause_s = LOOK_AT_BACKLOG_S

    def is_due(self, now: float) -> bool:
        """Return whether it is time to look at the backlog again, and note that somebody does."""
        if self._rule.least == self._rule.most or now < self._look_at:
            return False
        self._look_at = now + self._pause_s
        return True

    def look(self, engine: Engine, queues: Collection[str]) -> None:
        """Look at the backlog, in the thread that talks to the engine."""
        began_at = time.monotonic()
        self._backlog = backlog_at(
            engine, queues, worker=self._worker, rule=self._rule, processes=self.processes
        )
        self._pause_s = max(LOOK_AT_BACKLOG_S, _REST_PER_LOOK * (time.monotonic() - began_at))

    def decide(self, now: float) -> int:
        """Return how many children there should be now, by the last look that was not used yet."""
        backlog, self._backlog = self._backlog, None
        if backlog is not None:
            self.processes = self._governor.decide(backlog, processes=self.processes, now=now)
        return self.processes
