"""Memory engines with one bug each: a line or two that a tired programmer might have written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import msgspec

from cicely.core.edge import Fate
from cicely.core.event import EventFilter, EventPage
from cicely.core.flow import Needs, Use
from cicely.core.job import Claim, NewJob, Tallies
from cicely.core.outcome import Again, Await, Failed, Finish, Outcome, Step, Succeeded
from cicely.core.resources import Amounts
from cicely.core.rollup import Count, Word
from cicely.core.states import State
from cicely.engines.contract import (
    Ask,
    Beat,
    Demand,
    Enqueued,
    Grant,
    Holder,
    Intake,
    Kept,
    Save,
    Schedule,
    Session,
    Setting,
    Silent,
    Verdict,
    name_of,
)
from cicely.engines.memory import Member, MemoryEngine, Row
from cicely.engines.memory.record import Record
from cicely.engines.memory.rows import Link


class SettlesWithoutTokenCheck(MemoryEngine):
    """Any token that a job ever had settles its present attempt."""

    def _take(self, row: Row, session_id: str, demand: Demand) -> None:
        super()._take(row, session_id, demand)
        self.__dict__.setdefault("owners", {})[row.token] = row

    def _holding(self, token: bytes) -> Row | None:
        row = self.__dict__.get("owners", {}).get(token)
        return row if row and row.token else None


class HandsOutRunningJobs(MemoryEngine):
    def _in_order(self, member: Member, demand: Demand, ask: Ask) -> Iterator[Row]:
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
    def _release(self, row: Row, reason: str) -> None:
        if reason != "its session was retired":
            super()._release(row, reason)


class RescuesWhateverTheBeat(MemoryEngine):
    def _rescue(self, silent: Silent) -> int:
        member = self._members.get(silent.session_id)
        return super()._rescue(Silent(silent.session_id, member.beat if member else 0))


class RescuesForFree(MemoryEngine):
    def _carry_out(self, row: Row, step: Finish | Again, attempt_reason: str) -> None:
        super()._carry_out(row, msgspec.structs.replace(step, tallies=row.tallies), attempt_reason)


class RetriesAtOnce(MemoryEngine):
    def _again(self, row: Row, step: Again, attempt_reason: str = "") -> None:
        super()._again(row, msgspec.structs.replace(step, delay_s=None), attempt_reason)


class LosesCheckpoints(MemoryEngine):
    def _again(self, row: Row, step: Again, attempt_reason: str = "") -> None:
        super()._again(row, step, attempt_reason)
        row.checkpoint = None


class HandsOutExpiredJobs(MemoryEngine):
    def _expire(self, row: Row) -> None:
        row.expires_at = None


class IgnoresUniqueKeys(MemoryEngine):
    def _holder_of(self, unique: str) -> Row | None:
        return None


class ForgetsReceipts(MemoryEngine):
    def _settle_one(self, outcome: Outcome) -> Verdict:
        self._receipts.clear()
        return super()._settle_one(outcome)


class IgnoresPriority(MemoryEngine):
    def _enqueue_one(self, new: NewJob, *, waits: bool = False) -> Enqueued:
        answer = super()._enqueue_one(new, waits=waits)
        self._rows[answer.id].rank = 0
        return answer


class HandsOutPausedQueues(MemoryEngine):
    def pause(self, queue: str) -> None:
        self._queues.add(queue)


class ForgetsToCancelRunningJobs(MemoryEngine):
    def _cancel_by_hand(self, row: Row, reason: str) -> bool:
        return row.state is State.RUNNING or super()._cancel_by_hand(row, reason)


class DropsResultsOfCancelledJobsLate(MemoryEngine):
    """A job that was asked to cancel may still succeed."""

    def _settle_one(self, outcome: Outcome) -> Verdict:
        row = self._holding(outcome.token)
        if row is not None and isinstance(outcome, Succeeded):
            row.cancelling = False
        return super()._settle_one(outcome)


class KeepsTheFence(MemoryEngine):
    def _take(self, row: Row, session_id: str, demand: Demand) -> None:
        super()._take(row, session_id, demand)
        row.fence = 1


class ReusesTokens(MemoryEngine):
    def _take(self, row: Row, session_id: str, demand: Demand) -> None:
        self._next_claim = row.n
        super()._take(row, session_id, demand)


class KeepsClaimsWhoseReplyWasLost(MemoryEngine):
    def _beat_one(self, session_id: str, named: set[bytes], number: int) -> Beat:
        return super()._beat_one(session_id, {r.token for r in self._held_by(session_id)}, number)


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

    def _discard(self, row: Row, reason: str) -> bool:
        super()._discard(row, reason)
        self._rows[f"{row.new.id} leaked"] = row
        return True


class ForgetsTombstones(MemoryEngine):
    def _delete(self, row: Row) -> None:
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
    def _revive(self, row: Row, reason: str) -> bool:
        tallies: Tallies = row.tallies
        is_revived = super()._revive(row, reason)
        row.tallies = tallies
        return is_revived


class ForgetsToRing(MemoryEngine):
    def _ring_idle(self) -> None:
        """Leave them asleep."""


class HandsBackAfterOneBeat(MemoryEngine):
    def _beat_one(self, session_id: str, named: set[bytes], number: int) -> Beat:
        member = self._members.get(session_id)
        if member is not None:
            member.doubted = frozenset(row.token for row in self._held_by(session_id))
        return super()._beat_one(session_id, named, number)


class ReleasesByOneParentOfMany(MemoryEngine):
    def _pending(self, row: Row) -> int:
        return 0 if any(link.held for link in self._links_into(row)) else super()._pending(row)


class ReleasesByAnyEnd(MemoryEngine):
    def _decide_links_of(self, parent: Row) -> Iterator[Row]:
        parent.fate = Fate.SUCCESS
        yield from super()._decide_links_of(parent)


class LeavesEdgesUndecidedByARevival(MemoryEngine):
    def _undo(self, link: Link, cause: str) -> Iterator[Row]:
        return iter(())


class StartsBeforeThePublication(MemoryEngine):
    def _store(self, new: NewJob, *, waits: bool) -> Row:
        return super()._store(msgspec.structs.replace(new, held=False), waits=waits)


class HandsAnEventOutTwice(MemoryEngine):
    def _take_event(self, row: Row, wanted: Await) -> bool:
        was = dict(self._events)
        is_taken = super()._take_event(row, wanted)
        self._events = was
        return is_taken


class OverwritesSteps(MemoryEngine):
    """Records the newest value of a step, whoever recorded it before."""

    def _record_steps(self, row: Row, steps: Sequence[Step]) -> None:
        row.steps.update({step.key: step.value for step in steps})


class TicksTwice(MemoryEngine):
    def tick(
        self, seen: Schedule, then: Schedule, jobs: Sequence[NewJob], counts: Sequence[Count] = ()
    ) -> bool:
        return super().tick(self._schedules.get(seen.name, seen), then, jobs, counts)


class CountsWhatWasKnown(MemoryEngine):
    """An outcome that is repeated is counted again."""

    def _settle_one(self, outcome: Outcome) -> Verdict:
        verdict = super()._settle_one(outcome)
        if verdict is Verdict.ALREADY:
            self._record.count(Word.SUCCEEDED)
        return verdict


class CountsClaimsThatCameBack(MemoryEngine):
    """A claim that nobody started counts as an attempt."""

    def _release(self, row: Row, reason: str) -> None:
        self._record.count(Word.RETURNED, name=row.new.task)
        super()._release(row, reason)


class ForgetsWhatFollows(MemoryEngine):
    """The ends that another's end brings are not counted."""

    def _cancel_behind(self, row: Row, link: Link) -> Iterator[Row]:
        record, self._record = self._record, Record(self._now)
        yield from super()._cancel_behind(row, link)
        self._record = record


class TellsOfStartsAgain(MemoryEngine):
    """A repeated claim is told as another start."""

    def _claim_of(self, row: Row) -> Claim:
        self._record.started(row)
        return super()._claim_of(row)


class SkipsEvents(MemoryEngine):
    """A page's cursor lies one event too far."""

    def history(self, where: EventFilter, *, limit: int = 100, cursor: str | None = None) -> EventPage:
        page = super().history(where, limit=limit, cursor=cursor)
        return msgspec.structs.replace(page, cursor=str(int(page.cursor) + 1))


# --- flow control -------------------------------------------------------------------------
class CountsNoHolders(MemoryEngine):
    def _count_holders(self, key: str, since: float) -> int:
        return 0


class CountsHoldersTwice(MemoryEngine):
    """A claim holds a limit, and what it acquired of it holds the claim's unit as well."""

    def _count_holders(self, key: str, since: float) -> int:
        return super()._count_holders(key, since) + len(self._acquired)


class KeepsWhatClaimsAcquired(MemoryEngine):
    def _give_back(self, row: Row) -> None:
        acquired = self._acquired
        super()._give_back(row)
        self._acquired = acquired


class AcquiresTwiceWhenRepeated(MemoryEngine):
    def acquire(self, session_id: str, token: bytes, request: bytes, uses: Sequence[Use]) -> Grant:
        return super().acquire(session_id, token, os.urandom(8) + request, uses)


class ServesLanesByRankAlone(MemoryEngine):
    def _clock_of(self, row: Row) -> float:
        return 0.0


class LetsTheIdleSaveUp(MemoryEngine):
    def _charge(self, row: Row) -> None:
        self._clocks[row.new.queue] = 0.0
        super()._charge(row)


class ChargesTheUnstarted(MemoryEngine):
    def _heed(self, row: Row, outcome: Outcome) -> None:
        super()._heed(row, outcome)
        row.unused = False


class NeverCorrectsCosts(MemoryEngine):
    def _heed(self, row: Row, outcome: Outcome) -> None:
        super()._heed(row, outcome)
        row.spent = {}


class TakesBeforeItLooksAtAllKeys(MemoryEngine):
    """A job that waits for its second key has used up some of its first one's rate."""

    def _valve_opens_at(self, use: Use) -> float:
        at = super()._valve_opens_at(use)
        if at <= self._now():
            self._reserve(use)
        return at


class AnySuccessClosesABreaker(MemoryEngine):
    def _tell(self, breaker_name: str, row: Row, *, is_to_blame: bool) -> None:
        row.started_at = self._now()
        super()._tell(breaker_name, row, is_to_blame=is_to_blame)


class ChargesProbes(MemoryEngine):
    def _after_probe(self, row: Row, outcome: Outcome) -> Again | None:
        return None


class LetsOneJobProbeForEver(MemoryEngine):
    def _after_probe(self, row: Row, outcome: Outcome) -> Again | None:
        row.attempts, attempts = [], row.attempts
        try:
            return super()._after_probe(row, outcome)
        finally:
            row.attempts = attempts


class SlowsNobody(MemoryEngine):
    def _refuse(self, key: str, retry_after_s: float) -> None:
        """Let them call again at once."""


class GivesUnitsTwice(MemoryEngine):
    def _taken_of(self, worker: str) -> list[Amounts]:
        return super()._taken_of(worker)[1:]


class GivesWhatIsReserved(MemoryEngine):
    def _taken_of(self, worker: str) -> list[Amounts]:
        return [row.units for row in self._held.values() if row.worker == worker]


class RunsWhatDrawsAnywhere(MemoryEngine):
    def _has_room(self, row: Row, session: Session) -> bool:
        row.draws = row.draws and session.worker in self._reservations.drawn_by(row)
        return super()._has_room(row, session)


class BindsOnlyWhatComesLater(MemoryEngine):
    def _bind_ready(self, workflow: str) -> None:
        """Leave those that are ready where they stand."""


class KeepsWhatFails(MemoryEngine):
    def _heed_reservations(self, row: Row, outcome: Outcome) -> None:
        super()._heed_reservations(row, outcome)
        if isinstance(outcome, Failed):
            super()._heed_reservations(row, Succeeded(outcome.token, keeps=tuple(row.units)))


class ReservesForEver(MemoryEngine):
    def _end_reservations(self, batch: int) -> int:
        return 0


class ReservesOfWorkersThatAreGone(MemoryEngine):
    def _close_session(self, session_id: str) -> None:
        del self._members[session_id]
        self._closed.add(session_id)


class NeverLosesPatience(MemoryEngine):
    def _keeps_free(self, row: Row, worker: str) -> bool:
        return False


class HidesForWhomRoomIsKept(MemoryEngine):
    def _kept_from(self, row: Row) -> Iterator[Kept]:
        return iter(())


class LetsOthersPassForEver(MemoryEngine):
    def _note_waiter(self, row: Row, session: Session) -> None:
        """Forget who was held back."""


class RetriesWhereItFailed(MemoryEngine):
    def _others_run(self, needs: Needs, task: str, queue: str) -> bool:
        return False


class StoresBeyondTheBacklog(MemoryEngine):
    def _check_backlogs(self, fresh: Sequence[NewJob]) -> None:
        """Let them in."""


class ForgetsWhenValvesOpen(MemoryEngine):
    def _valves_open_in_s(self) -> float | None:
        return None


class ForgetsGaugesOfWhatIsConfigured(MemoryEngine):
    def configure(self, settings: Sequence[Setting]) -> None:
        super().configure(settings)
        for setting in settings:
            self._gauges.pop(name_of(setting), None)


class ShowsNoHolders(MemoryEngine):
    def _holders_of(self, key: str) -> list[Holder]:
        return []


class RingsForWhatIsHeldBack(MemoryEngine):
    def _could_start(self, row: Row, member: Member) -> bool:
        return True
