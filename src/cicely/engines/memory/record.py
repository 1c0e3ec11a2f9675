"""What the memory engine writes down of each move: the counts of the minute, and events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice, takewhile

from cicely.core.event import (
    JOB_REVIVED,
    JOB_STARTED,
    KEEP_HISTORY_S,
    MAX_HISTORY,
    Event,
    kind_of_end,
    kind_of_step,
)
from cicely.core.outcome import Again, Finish, Pause
from cicely.core.rollup import KEEP_ROLLUP_MINUTES, Cell, Sum, Word, minute_of, run_us, word_of
from cicely.engines.memory.rows import Row


class Record:
    """Rollups and history, by the clock that is handed in."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._sums: dict[int, dict[tuple[Word, str, str], Sum]] = {}
        self._history: list[Event] = []
        self._last_seq = 0

    # --- what happens to jobs -----------------------------------------------------------------
    def stored(self, row: Row) -> None:
        """Count a job that was enqueued."""
        self._sum(Word.ENQUEUED, row.new.task, row.new.queue).count += 1

    def started(self, row: Row) -> None:
        """Tell of a claim, for a watched job."""
        if row.new.watched:
            self._tell_of(row, JOB_STARTED)

    def ended(self, row: Row, step: Finish) -> None:
        """Count and tell of an end, before it is carried out."""
        took_us = self._count(row, word_of(step, ""))
        run_s = None if took_us is None else took_us / 1e6
        kind = kind_of_end(step.state, run_s=run_s, watched=row.new.watched, cause=row.cause)
        self._tell_of(row, kind, reason=step.reason, run_s=run_s)

    def went_on(self, row: Row, step: Again | Pause, attempt_reason: str) -> None:
        """Count and tell of an attempt after which the job goes on, before that is carried out."""
        word = word_of(step, attempt_reason)
        if word is None:
            return
        took_us = self._count(row, word)
        if isinstance(step, Again) and took_us is not None:
            kind = kind_of_step(step, attempt_reason)
            self._tell_of(row, kind, reason=step.reason, run_s=took_us / 1e6)

    def revived(self, row: Row) -> None:
        """Tell of a job that somebody revived."""
        self._tell_of(row, JOB_REVIVED, reason=row.reason)

    def _count(self, row: Row, word: Word | None) -> int | None:
        """Count a word of a job; return how long it ran, None where it did not."""
        if word is None:
            return None
        total = self._sum(word, row.new.task, row.new.queue)
        if not row.token:
            total.count += 1
            return None
        took_us = run_us(row.started_at or 0.0, self._now())
        total.add_run(took_us)
        return took_us

    def _tell_of(self, row: Row, kind: str | None, *, reason: str = "", run_s: float | None = None) -> None:
        if kind is None:
            return
        self.tell(
            kind,
            name=row.session if row.token else "",
            reason=reason,
            job_id=row.id,
            task=row.new.task,
            queue=row.new.queue,
            workflow=row.new.workflow,
            attempt=row.attempt,
            fence=row.fence,
            run_s=run_s,
        )

    # --- anything else ------------------------------------------------------------------------
    def count(self, word: Word, count: int = 1, *, name: str = "", ago_s: float = 0.0) -> None:
        """Count something that is no job's."""
        self._sum(word, name, "", minute=minute_of(self._now() - max(0.0, ago_s))).count += count

    def tell(
        self,
        kind: str,
        *,
        name: str = "",
        reason: str = "",
        job_id: str = "",
        task: str = "",
        queue: str = "",
        workflow: str = "",
        attempt: int = 0,
        fence: int = 0,
        run_s: float | None = None,
    ) -> None:
        """Write an event down."""
        self._last_seq += 1
        event = Event(
            kind=kind,
            at=self._now(),
            name=name,
            reason=reason,
            job_id=job_id,
            task=task,
            queue=queue,
            workflow=workflow,
            attempt=attempt,
            fence=fence,
            run_s=run_s,
            cursor=str(self._last_seq),
        )
        self._history.append(event)

    def _sum(self, word: Word, task: str, queue: str, *, minute: int | None = None) -> Sum:
        at = minute_of(self._now()) if minute is None else minute
        return self._sums.setdefault(at, {}).setdefault((word, task, queue), Sum())

    # --- reading ------------------------------------------------------------------------------
    @property
    def newest(self) -> str:
        """The cursor behind the last event."""
        return str(self._last_seq)

    def minutes(self, since: int, until: int) -> list[int]:
        """Return the minutes in which something was counted, from `since` to before `until`."""
        return [minute for minute in sorted(self._sums) if since <= minute < until]

    def cells(self, minute: int) -> Iterator[Cell]:
        """Yield the cells of a minute."""
        for (word, task, queue), total in sorted(self._sums[minute].items()):
            buckets = dict(sorted(total.buckets.items()))
            yield Cell(minute, word, task, queue, total.count, total.sum_us, buckets)

    def after(self, cursor: str | None) -> list[Event]:
        """Return the events behind a cursor, oldest first."""
        seen = int(cursor) if cursor else 0
        first = self._last_seq - len(self._history)
        return self._history[max(0, seen - first) :]

    # --- retention ----------------------------------------------------------------------------
    def forget(self, batch: int) -> bool:
        """Drop what is past its retention, `batch` rows of each at most; return whether there is more."""
        oldest = minute_of(self._now()) - KEEP_ROLLUP_MINUTES
        old_minutes = list(islice(takewhile(lambda minute: minute <= oldest, self._sums), batch))
        for minute in old_minutes:
            del self._sums[minute]
        old = list(islice(takewhile(self._is_old, enumerate(self._history)), batch))
        del self._history[: len(old)]
        return batch in (len(old_minutes), len(old))

    def _is_old(self, numbered: tuple[int, Event]) -> bool:
        n, event = numbered
        return n < len(self._history) - MAX_HISTORY or event.at <= self._now() - KEEP_HISTORY_S
