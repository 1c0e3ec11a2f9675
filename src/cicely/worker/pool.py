"""Some places of a child where attempts run, and the claims that wait before them."""

from __future__ import annotations

from collections.abc import Mapping

from cicely.core.intake import BUFFER_JOBS, BUFFER_S
from cicely.core.job import Claim, Kind
from cicely.engines.contract import Ask
from cicely.worker.handover import Handover
from cicely.worker.processes import boottime


class Pool:
    """Some places where attempts run, the kinds of job they take, and the hand-over before them."""

    def __init__(self, kinds: tuple[Kind, ...], width: int, handover: Handover) -> None:
        self.kinds = kinds
        self.width = width
        self.handover = handover
        self.waiting: dict[bytes, Claim] = {}
        #: With so few claims left to start, outcomes no longer wait for company.
        self.low = width
        #: Per place, when its attempt started; 0 where none runs.
        self.started_at = [0.0] * width

    @property
    def active(self) -> int:
        """How many attempts run."""
        return sum(1 for at in self.started_at if at)

    @property
    def free(self) -> int:
        """How many places have neither an attempt nor a claim that waits for them."""
        return max(0, self.width - self.active - len(self.waiting))

    def ask(self, pace: Mapping[str, float], *, at_most: int) -> Ask | None:
        """Return what to claim for this pool now, `at_most` so many jobs, or None.

        `pace`: the tasks whose runs are short, with the seconds that one takes.
        """
        slots = min(self.free, at_most)
        buffer_s = 0.0
        room = min(BUFFER_JOBS - len(self.waiting), at_most)
        if Kind.ASYNC not in self.kinds and room > 0:
            buffer_s = self._buffer_s(pace)
        if slots:
            return Ask(self.kinds, slots, pace, max(0.0, buffer_s), room)
        if pace and buffer_s > BUFFER_S / 2 and room > BUFFER_JOBS / 2:
            return Ask(self.kinds, 0, pace, buffer_s, room)
        return None

    def _buffer_s(self, pace: Mapping[str, float]) -> float:
        now = boottime()
        lively = sum(1 for at in self.started_at if not at or now - at < BUFFER_S)
        ahead_s = sum(pace.get(claim.task, BUFFER_S) for claim in list(self.waiting.values()))
        return BUFFER_S * lively - ahead_s

    def take_over(self, claims: tuple[Claim, ...]) -> None:
        """Hand over those of `claims` that run here."""
        fitting = {claim.token: claim for claim in claims if claim.kind in self.kinds}
        if fitting:
            self.waiting.update(fitting)
            self.low = max(self.width, len(self.waiting) // 2)
            self.handover.put(fitting)
