"""The ledger in memory: what really ran, whatever the engine believes."""

from __future__ import annotations

from dataclasses import dataclass, field

from cicely.core.outcome import Outcome
from cicely.engines.contract import Verdict


class Broken(AssertionError):
    """A promise was broken; the message says which, by what."""


@dataclass
class Ledger:
    """Starts and ends of attempts as the processes saw them, and verdicts as they were given."""

    starts: int = 0
    stale: int = 0
    accepted: int = 0
    killed_midway: int = 0
    re_runs: int = 0
    enqueued: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)
    _alive: dict[str, str] = field(default_factory=dict)
    _fences: dict[str, int] = field(default_factory=dict)
    _claims: dict[bytes, tuple[str, int]] = field(default_factory=dict)
    _last: dict[str, bytes] = field(default_factory=dict)
    _ended: set[str] = field(default_factory=set)
    _final: set[bytes] = field(default_factory=set)
    #: The attempts after which there may be another: cut short, refused, or ended for a retry.
    _may_follow: set[tuple[str, int]] = field(default_factory=set)

    # --- by the processes that run attempts ----------------------------------------------
    def start(self, job_id: str, fence: int, where: str) -> None:
        """Note that an attempt began to run."""
        self.starts += 1
        if job_id in self._alive:
            raise Broken(f"overlapped: {job_id} starts in {where} while it runs in {self._alive[job_id]}")
        if job_id in self._ended:
            raise Broken(f"run again after an accepted end: {job_id} in {where}")
        before = self._fences.get(job_id, 0)
        if fence <= before:
            raise Broken(f"started twice under one fence: {job_id} #{fence} in {where}, before #{before}")
        if before and (job_id, before) not in self._may_follow:
            raise Broken(f"run again for no reason: {job_id} #{fence} in {where}, after #{before}")
        self.re_runs += before > 0
        self._fences[job_id] = fence
        self._alive[job_id] = where

    def end(self, job_id: str) -> None:
        """Note that an attempt's code returned."""
        del self._alive[job_id]

    def cut_short(self, job_id: str, fence: int) -> None:
        """Note that an attempt died with its process, or was dropped as lost."""
        del self._alive[job_id]
        self.killed_midway += 1
        self._may_follow.add((job_id, fence))

    def lost_outcome(self, token: bytes) -> None:
        """Note that an outcome died with its process, maybe before it was settled."""
        self._may_follow.add(self._claims[token])

    # --- by the engine --------------------------------------------------------------------
    def claimed(self, job_id: str, fence: int, token: bytes) -> None:
        """Note a claim, as it is made."""
        self._claims[token] = job_id, fence
        self._last[job_id] = token

    def judged(self, outcome: Outcome, verdict: Verdict, *, is_final: bool) -> None:
        """Note a verdict, and whether the job has ended with it."""
        job_id, fence = self._claims[outcome.token]
        if verdict is Verdict.STALE and outcome.token in self._final:
            raise Broken(f"refused when it was repeated: an outcome of {job_id} that was accepted")
        self.stale += verdict is Verdict.STALE
        self.accepted += verdict is Verdict.ACCEPTED
        if verdict is Verdict.STALE or not is_final:
            self._may_follow.add((job_id, fence))
        if verdict is not Verdict.ACCEPTED:
            return
        if job_id in self._ended:
            raise Broken(f"accepted twice: {job_id} had ended")
        if self._last[job_id] != outcome.token:
            raise Broken(f"I3: an outcome of {job_id} was accepted under a token that is not its last")
        if is_final:
            self._ended.add(job_id)
            self._final.add(outcome.token)
