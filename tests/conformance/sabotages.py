"""Memory engines with one bug each: a line or two that a tired programmer might have written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import msgspec

from cicely.core.job import NewJob, Tallies
from cicely.core.outcome import Again, Finish, Outcome, Succeeded
from cicely.core.states import State
from cicely.engines.contract import Ask, Beat, Demand, Enqueued, Intake, Save, Silent, Verdict
from cicely.engines.memory import MemoryEngine, _Member, _Row


class SettlesWithoutTokenCheck(MemoryEngine):
    """Any token that a job ever had settles its present attempt."""

    def _take(self, row: _Row, session_id: str, demand: Demand) -> None:
        super()._take(row, session_id, demand)
        self.__dict__.setdefault("owners", {})[row.token] = row

    def _holding(self, token: bytes) -> _Row | None:
        row = self.__dict__.get("owners", {}).get(token)
        return row if row and row.token else None


class HandsOutRunningJobs(MemoryEngine):
    def _in_order(self, member: _Member, demand: Demand, ask: Ask) -> Iterator[_Row]:
        yield from super()._in_order(member, demand, ask)
        yield from [r for r in self._rows.values() if r.token and r.kind in ask.kinds]


class AcknowledgesBeforeItRecords(MemoryEngine):
    """What was acknowledged last is recorded with the next call, if there is one."""

    def _settle_one(self, outcome: Outcome) -> Verdict:
        previous = self.__dict__.get("pending", outcome)
        self.__dict__["pending"] = outcome
        if previous is not outcome:
            super()._settle_one(previous)
        return Verdict.ACCEPTED


class RetiresWithoutHandingBack(MemoryEngine):
    def _release(self, row: _Row, reason: str) -> None:
        if reason != "its session was retired":
            super()._release(row, reason)


class RescuesWhateverTheBeat(MemoryEngine):
    def _rescue(self, silent: Silent) -> int:
        member = self._members.get(silent.session_id)
        return super()._rescue(Silent(silent.session_id, member.beat if member else 0))


class RescuesForFree(MemoryEngine):
    def _carry_out(self, row: _Row, step: Finish | Again, attempt_reason: str) -> None:
        super()._carry_out(row, msgspec.structs.replace(step, tallies=row.tallies), attempt_reason)


class RetriesAtOnce(MemoryEngine):
    def _again(self, row: _Row, step: Again, attempt_reason: str = "") -> None:
        super()._again(row, msgspec.structs.replace(step, delay_s=None), attempt_reason)


class LosesCheckpoints(MemoryEngine):
    def _again(self, row: _Row, step: Again, attempt_reason: str = "") -> None:
        super()._again(row, step, attempt_reason)
        row.checkpoint = None


class HandsOutExpiredJobs(MemoryEngine):
    def _expire(self, row: _Row) -> None:
        row.expires_at = None


class IgnoresUniqueKeys(MemoryEngine):
    def _holder_of(self, unique: str) -> _Row | None:
        return None


class ForgetsReceipts(MemoryEngine):
    def _settle_one(self, outcome: Outcome) -> Verdict:
        self._receipts.clear()
        return super()._settle_one(outcome)


class IgnoresPriority(MemoryEngine):
    def _enqueue_one(self, new: NewJob) -> Enqueued:
        answer = super()._enqueue_one(new)
        self._rows[answer.id].rank = 0
        return answer


class HandsOutPausedQueues(MemoryEngine):
    def pause(self, queue: str) -> None:
        self._queues.add(queue)


class ForgetsToCancelRunningJobs(MemoryEngine):
    def _cancel(self, row: _Row, reason: str) -> bool:
        return row.state is State.RUNNING or super()._cancel(row, reason)


class DropsResultsOfCancelledJobsLate(MemoryEngine):
    """A job that was asked to cancel may still succeed."""

    def _settle_one(self, outcome: Outcome) -> Verdict:
        row = self._holding(outcome.token)
        if row is not None and isinstance(outcome, Succeeded):
            row.cancelling = False
        return super()._settle_one(outcome)


class KeepsTheFence(MemoryEngine):
    def _take(self, row: _Row, session_id: str, demand: Demand) -> None:
        super()._take(row, session_id, demand)
        row.fence = 1


class ReusesTokens(MemoryEngine):
    def _take(self, row: _Row, session_id: str, demand: Demand) -> None:
        self._next_claim = row.n
        super()._take(row, session_id, demand)


class KeepsClaimsWhoseReplyWasLost(MemoryEngine):
    def _beat_one(self, session_id: str, named: set[bytes]) -> Beat:
        return super()._beat_one(session_id, {r.token for r in self._held_by(session_id)})


class TakesMoreWhenAClaimIsRepeated(MemoryEngine):
    def claim(self, session_id: str, demand: Demand) -> Intake:
        return super().claim(session_id, msgspec.structs.replace(demand, request=os.urandom(8)))


class LetsClosedSessionsJoinAgain(MemoryEngine):
    def _close_session(self, session_id: str) -> None:
        del self._members[session_id]


class LetsClosedSessionsClaim(MemoryEngine):
    def _close_session(self, session_id: str) -> None:
        self._closed.add(session_id)


class LeaksCounts(MemoryEngine):
    """A discarded job still counts: shown as one that is kept under another id."""

    def _discard(self, row: _Row, reason: str) -> bool:
        super()._discard(row, reason)
        self._rows[f"{row.new.id} leaked"] = row
        return True


class ForgetsTombstones(MemoryEngine):
    def _delete(self, row: _Row) -> None:
        super()._delete(row)
        self._tombs.clear()


class NeverTakesMessagesBack(MemoryEngine):
    def _take_back_messages(self, batch: int) -> int:
        return 0


class SavesUnderAnyToken(MemoryEngine):
    def save(self, session_id: str, saves: Sequence[Save]) -> list[bool]:
        running = [row.token for row in self._rows.values() if row.token]
        named = [msgspec.structs.replace(save, token=running[0]) for save in saves if running]
        super().save(session_id, named)
        return [True] * len(saves)


class RevivesWithOldTallies(MemoryEngine):
    def _revive(self, row: _Row, reason: str) -> bool:
        tallies: Tallies = row.tallies
        is_revived = super()._revive(row, reason)
        row.tallies = tallies
        return is_revived


class ForgetsToRing(MemoryEngine):
    def _ring_idle(self) -> None:
        """Leave them asleep."""
