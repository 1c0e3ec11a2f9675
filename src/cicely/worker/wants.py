"""What a child asks the engine for, and whether asking is worth it."""

from __future__ import annotations

import os
import time

from cicely.core.intake import Paces, Turns
from cicely.engines.contract import Ask, Demand, Intake
from cicely.worker.appetite import Appetite, is_full
from cicely.worker.pool import Pool


class Wants:
    """The free places of a child's pools, as demands. `remaining` counts the jobs it may still claim."""

    def __init__(self, pools: tuple[Pool, ...], turns: Turns, *, paces: Paces, max_jobs: int) -> None:
        self.appetite = Appetite()
        self.remaining = max_jobs or 1 << 60
        #: The last demand, if it found nothing.
        self.unmet: Demand | None = None
        self._pools = pools
        self._turns = turns
        self._paces = paces

    def demand(self) -> Demand | None:
        """Return what to ask for now, if anything."""
        if not self._are_worth_asking():
            return None
        # Before it is asked for: a place that gets free meanwhile has then not been offered.
        self.appetite.offer(self._free_places())
        asks = self._asks()
        return Demand(os.urandom(8), self._turns.next(), asks) if asks else None

    def answered(self, demand: Demand, intake: Intake) -> None:
        """Note what a demand brought."""
        self.remaining -= len(intake.claims)
        self.unmet = None if intake.claims else demand
        self.appetite.answered(
            is_full=is_full(demand, len(intake.claims)),
            due_in_s=intake.next_due_in_s,
            now=time.monotonic(),
        )

    def is_any(self) -> bool:
        """Return whether there is something to ask for."""
        return self._are_worth_asking() and bool(self._asks())

    def has_waiting(self) -> bool:
        """Return whether claims wait to be started."""
        return any(pool.waiting for pool in self._pools)

    def is_idle(self) -> bool:
        """Return whether nothing runs and nothing waits."""
        return not any(pool.active or pool.waiting for pool in self._pools)

    def is_low(self) -> bool:
        """Return whether so little work is at hand that outcomes should not wait for company."""
        # Asked after every job: a plain loop costs a quarter of what all() over a generator does.
        for pool in self._pools:  # noqa: SIM110
            if len(pool.waiting) > pool.low:
                return False
        return True

    def _are_worth_asking(self) -> bool:
        return self.appetite.wants(self._free_places(), is_idle=not self.has_waiting())

    def _free_places(self) -> tuple[int, ...]:
        return tuple(pool.free for pool in self._pools)

    def _asks(self) -> tuple[Ask, ...]:
        if self.remaining <= 0:
            return ()
        pace = self._paces.short()
        asks = [pool.ask(pace, at_most=self.remaining) for pool in self._pools]
        return tuple(ask for ask in asks if ask is not None)
