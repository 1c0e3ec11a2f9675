"""Calls that an engine did not answer: repeated for a while, and told to the engine when it is back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from cicely.engines.contract import Engine
from cicely.errors import EngineError, EngineUnavailable
from cicely.patience import patiently
from cicely.upkeep.minutes import Troubles

T = TypeVar("T")


class Outages:
    """The calls of one process to one engine. Workers report for themselves: see `worker/keeper.py`."""

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._engine = engine
        #: What the engine does not know yet.
        self.troubles = Troubles()

    def patiently(self, call: Callable[[], T], *, for_s: float) -> T:
        """Call until the engine answers; after `for_s` seconds without one, raise EngineUnavailable."""
        answer = patiently(lambda: self._called(call), for_s=for_s)
        if self.troubles:
            self.report()
        return answer

    def _called(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except EngineUnavailable:
            self.note()
            raise

    def note(self) -> None:
        """Note that a call failed just now."""
        self.troubles.failed(time.monotonic())

    def report(self) -> None:
        """Tell the engine what was noted. Where it cannot be told, it is with the next call."""
        try:
            self._engine().report(self.troubles.counts(time.monotonic()))
        except EngineError:
            return
        self.troubles.reported()
