"""Whether another claim may find something that the last one did not.

A claim that finds nothing costs everybody who shares the engine, and the child's own interpreter. So
one is made only after something changed: a ring, a job that is due, more places than were offered.
"""

from __future__ import annotations

from cicely.engines.contract import Demand


class Appetite:
    """What a child knows of the work that is left, from its own claims. `now` is its monotonic clock."""

    def __init__(self) -> None:
        #: Whether the next claim is worth making, whatever the last one found.
        self.is_whetted = True
        #: When the next job is due, as far as the engine told.
        self.due_at = float("inf")
        self._is_listening = False
        #: Per pool, the free places that the claim under way offers, and those of the last one.
        self._offered: tuple[int, ...] = ()
        self._refused: tuple[int, ...] = ()

    def wants(self, free: tuple[int, ...], *, is_idle: bool) -> bool:
        """Return whether to claim, with so many `free` places per pool; idle: nothing waits to start.

        An idle child without a ring to wait for claims once more: only that makes others ring it.
        """
        if self.is_whetted:
            return True
        refused = self._refused or (0,) * len(free)
        if any(now > then for now, then in zip(free, refused, strict=True)):
            return True
        return is_idle and any(free) and not self._is_listening

    def whet(self) -> None:
        """Something changed: a claim may find more."""
        self.is_whetted = True

    def look_at(self, now: float) -> None:
        """Notice a job that is due."""
        if now >= self.due_at:
            self.due_at = float("inf")
            self.whet()

    def offer(self, free: tuple[int, ...]) -> None:
        """Note the places that a claim offers, before it is made: what gets free meanwhile was not."""
        self._offered = free

    def listens(self) -> None:
        """Note that a ring will come."""
        self._is_listening = True

    def hears(self) -> None:
        """Note a ring: there is work, and no other ring will come."""
        self._is_listening = False
        self.whet()

    def answered(self, *, is_full: bool, due_in_s: float | None, now: float) -> None:
        """Note what the engine left: perhaps more, after a full claim, else nothing that fits."""
        self.is_whetted = is_full
        self._refused = self._offered
        self.due_at = float("inf") if due_in_s is None else now + due_in_s


def is_full(demand: Demand, claims: int) -> bool:
    """Return whether a claim took so much that there may be more: the engine left nothing that fits.

    Asking again in vain would keep the interpreter from the thread that is to start what came.
    """
    slots = sum(ask.slots for ask in demand.asks)
    if any(ask.pace for ask in demand.asks):
        return claims > slots
    return claims >= slots
