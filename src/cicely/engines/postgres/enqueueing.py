"""The verb `enqueue`: stores new jobs, and answers for those that are known already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from cicely.core.job import Enqueued, NewJob
from cicely.engines.postgres.backlogs import check_backlogs
from cicely.engines.postgres.graph import GATED, WATCHED
from cicely.engines.postgres.names import Names
from cicely.engines.postgres.standing import is_gated, streams_of
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.streams import Place, Unplaced
from cicely.engines.postgres.transaction import GATED_WORK, Retry, Transaction
from cicely.engines.postgres.wire import Values

_SQL: Final = statements("enqueue")
_STREAM: Final = statements("stream")

#: A later job wakes nobody.
SOON_S: Final = 2.0
ADD: Final = _SQL["add"]
ADD_ONE: Final = _SQL["add_one"]
ADD_GATED: Final = _SQL["add_gated"]


def is_plain(jobs: Sequence[NewJob]) -> bool:
    """Return whether one statement stores all of them: no unique keys or labels, each id once."""
    if len(jobs) == 1:
        return not _is_more(jobs[0])
    if any(map(_is_more, jobs)):
        return False
    return len({job.id for job in jobs}) == len(jobs)


def work_of(jobs: Iterable[NewJob]) -> set[tuple[str, str]]:
    """Return (queue, task) of new work; whether gated jobs wake somebody is looked up."""
    return {GATED_WORK if is_gated(job) else (job.queue, job.task) for job in jobs}


def _is_more(job: NewJob) -> bool:
    return bool(job.unique or job.workflow or job.group or job.held)


class Asked(Exception):
    """Nothing was stored: a queue has a bound, or lanes, and is to be asked first."""


def enqueue_plain(txn: Transaction, jobs: Sequence[NewJob], given_now: float | None) -> list[Enqueued]:
    """Store those of `jobs` that are new, by one statement. Raises Asked."""
    soon = [job for job in jobs if job.delay_s <= SOON_S]
    txn.work = list(work_of(soon))
    if len(jobs) == 1 and _is_simple(jobs[0]):
        rows = txn.rows_of_all(ADD_ONE, _values(jobs[0], txn.names, given_now))
    else:
        rows = _add(txn, jobs, given_now, is_asked=False)
    if not rows:
        queues = list({txn.names.queue_id(job.queue) for job in jobs})
        if txn.rows(_SQL["asks"], {"queues": queues, "keys": _keys(jobs)}):
            raise Asked
    stored = {job_id for (job_id,) in rows}
    txn.is_stirred = bool(stored and soon)
    return [Enqueued(job.id, fresh=job.id in stored) for job in jobs]


def _add(txn: Transaction, jobs: Sequence[NewJob], now: float | None, *, is_asked: bool) -> list[Values]:
    """Store new jobs; `is_asked` says that there is room for them."""
    stored = columns(jobs, txn.names, now) | {"is_asked": is_asked}
    gated = [is_gated(job) for job in jobs]
    if not any(gated) and not any(job.watched for job in jobs):
        return txn.rows_of_all(ADD, stored)
    stored["stream"], stored["flow"] = streams_of(jobs, txn.names)
    stored["traits"] = [
        (GATED if one else 0) | (WATCHED if job.watched else 0) for job, one in zip(jobs, gated, strict=True)
    ]
    stored |= {"keys": _keys(jobs), "has_plain": not all(gated)}
    rows = txn.rows_of_all(ADD_GATED, stored)
    for number in rows[0][1] if rows else ():
        txn.names.streams.forget(number)
    return [row[:1] for row in rows]


def _keys(jobs: Sequence[NewJob]) -> list[str]:
    """Return the keys of limits whose backlog may be bounded."""
    return list({use.key for job in jobs if job.flow is not None for use in job.flow.uses})


def _is_simple(job: NewJob) -> bool:
    """Return whether a job is plain and ready at once, whatever the time is, and needs no row beside that."""
    if job.lane or job.flow is not None or job.watched:
        return False
    is_due = job.due_at is None and job.delay_s <= 0
    return is_due and job.expires_s is None and job.expires_at is None and not job.tags


def _values(job: NewJob, names: Names, now: float | None) -> dict[str, Any]:
    """Return the bindings of `add_one`."""
    return {
        "now": now,
        "id": job.id,
        "class": names.class_id(job.task, job.kind),
        "queue": names.queue_id(job.queue),
        "lane": job.lane,
        "priority": job.priority,
        "ageing_s": float(job.ageing_s),
        "keep_s": float(job.keep_s),
        "keep_failed_s": float(job.keep_failed_s),
        "remember_s": float(job.remember_s),
        "max_receives": job.max_receives,
        "options": job.options,
        "body": job.body,
    }


def columns(jobs: Sequence[NewJob], names: Names, now: float | None) -> dict[str, Any]:
    """Return the bindings of `add`."""
    return {
        "now": now,
        "id": [job.id for job in jobs],
        "class": [names.class_id(job.task, job.kind) for job in jobs],
        "queue": [names.queue_id(job.queue) for job in jobs],
        "lane": [job.lane for job in jobs],
        "priority": [job.priority for job in jobs],
        "delay_s": [float(job.delay_s) for job in jobs],
        "due_at": _instants(job.due_at for job in jobs),
        "expires_s": _instants(job.expires_s for job in jobs),
        "expires_at": _instants(job.expires_at for job in jobs),
        "ageing_s": [float(job.ageing_s) for job in jobs],
        "keep_s": [float(job.keep_s) for job in jobs],
        "keep_failed_s": [float(job.keep_failed_s) for job in jobs],
        "remember_s": [float(job.remember_s) for job in jobs],
        "max_receives": [job.max_receives for job in jobs],
        "unique_key": [job.unique or None for job in jobs],
        "tags": [msgspec.json.encode(job.tags).decode() if job.tags else None for job in jobs],
        "options": [job.options for job in jobs],
        "body": [job.body for job in jobs],
    }


def _instants(values: Iterable[float | None]) -> list[float | None]:
    # One type per list: the driver refuses to mix.
    return [None if value is None else float(value) for value in values]


def enqueue(txn: Transaction, jobs: Sequence[NewJob]) -> list[Enqueued]:
    """Store those of `jobs` that are new, in their order."""
    batch = Batch(txn, jobs)
    told = [batch.answer(job) for job in jobs]
    batch.check()
    if batch.chosen:
        stored = _add(txn, batch.chosen, txn.now, is_asked=True)
        if len(stored) < len(batch.chosen):
            raise Retry
    txn.is_stirred = True
    return told


class Batch:
    """Jobs of which some have unique keys, or an id twice: who stands for whom."""

    def __init__(self, txn: Transaction, jobs: Sequence[NewJob]) -> None:
        self._txn = txn
        self._known = {row[0] for row in txn.rows(_SQL["known"], {"ids": [job.id for job in jobs]})}
        self._holders: dict[str, str] = {}
        self.chosen: list[NewJob] = []
        wanted: dict[str, str] = {}
        for job in {job.id: job for job in reversed(jobs)}.values():
            if job.unique and job.id not in self._known:
                wanted[job.unique] = job.id
        self._take(wanted)

    def check(self) -> None:
        """Refuse what no backlog has room for, and give their lanes to queues that have others."""
        if not self.chosen:
            return
        check_backlogs(self._txn, self.chosen)
        names = self._txn.names
        queues = {names.queue_id(job.queue) for job in self.chosen if not is_gated(job)}
        lacking = self._txn.rows(_STREAM["without_lane"], {"queues": list(queues)}) if queues else ()
        if lacking:
            raise Unplaced([Place(queue, "") for (queue,) in lacking])

    def _take(self, wanted: dict[str, str]) -> None:
        """Take the keys that are free, and note who holds each."""
        if not wanted:
            return
        keys = list(wanted)
        taken = {row[0] for row in self._txn.rows(_SQL["hold"], {"keys": keys, "ids": list(wanted.values())})}
        self._holders |= {key: wanted[key] for key in taken}
        others = [key for key in keys if key not in taken]
        holders: dict[str, str] = dict(self._txn.rows(_SQL["holders"], {"keys": others})) if others else {}
        if len(holders) < len(others):
            raise Retry
        self._holders |= holders

    def answer(self, new: NewJob) -> Enqueued:
        """Return who stands for `new`, and choose it where that is itself."""
        if new.id in self._known:
            return Enqueued(new.id, fresh=False)
        if new.unique:
            if new.unique not in self._holders:
                self._take({new.unique: new.id})
            holder = self._holders[new.unique]
            if holder != new.id:
                return Enqueued(holder, fresh=False)
        self._known.add(new.id)
        self.chosen.append(new)
        return Enqueued(new.id, fresh=True)
