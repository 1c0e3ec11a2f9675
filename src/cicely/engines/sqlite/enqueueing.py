"""The verb `enqueue`: stores new jobs, and answers for those that are known already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from cicely.core.job import Enqueued, NewJob, rank
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.transaction import READY, SCHEDULED, Transaction, Values, texts

_SQL: Final = statements("enqueue")
_KNOWN_ONE: Final = _SQL["known_one"]
_LAST_N: Final = _SQL["last_n"]
_JOB: Final = _SQL["job"]
_READY: Final = _SQL["ready"]

#: Bodies above this lie in a table of their own, so that a job's row stays small.
INLINE_BYTES: Final = 1_024


def enqueue(txn: Transaction, jobs: Sequence[NewJob]) -> list[Enqueued]:
    """Store those of `jobs` that are new, in their order."""
    batch = _Batch(txn, _known(txn, jobs))
    answers = [batch.answer(job) for job in jobs]
    batch.write()
    txn.is_stirred = True
    return answers


def _known(txn: Transaction, jobs: Sequence[NewJob]) -> set[str]:
    """Return those ids of `jobs` that are taken."""
    if len(jobs) == 1:
        return {row[0] for row in txn.rows(_KNOWN_ONE, (jobs[0].id,))}
    ids = texts(job.id for job in jobs)
    known = {row[0] for row in txn.rows(_SQL["known_jobs"], (ids,))}
    if txn.row(_SQL["has_tombs"]):
        known |= {row[0] for row in txn.rows(_SQL["known_tombs"], (ids,))}
    return known


class _Batch:
    """The rows of one enqueue, gathered per table so that each statement runs over all of them."""

    def __init__(self, txn: Transaction, known: set[str]) -> None:
        self._txn = txn
        self._known = known
        self._keys: dict[str, str] = {}
        self._next_n: int = (txn.rows(_LAST_N)[0][0] or 0) + 1
        self._jobs: list[Values] = []
        self._ready: list[Values] = []
        self._payloads: list[Values] = []
        self._deferred: list[Values] = []
        self._expiring: list[Values] = []
        self._uniques: list[Values] = []
        self._tags: list[Values] = []

    def answer(self, new: NewJob) -> Enqueued:
        """Return who stands for `new`, and gather its rows where that is itself."""
        if new.id in self._known:
            return Enqueued(new.id, fresh=False)
        if new.unique:
            holder = self._holder_of(new.unique)
            if holder is not None:
                return Enqueued(holder, fresh=False)
            self._keys[new.unique] = new.id
        self._known.add(new.id)
        self._gather(new)
        return Enqueued(new.id, fresh=True)

    def _holder_of(self, key: str) -> str | None:
        if key in self._keys:
            return self._keys[key]
        row = self._txn.row(_SQL["holder"], (key,))
        return row[0] if row else None

    def _gather(self, new: NewJob) -> None:
        txn = self._txn
        now = txn.now
        n = self._next_n
        self._next_n += 1
        queue = txn.names.queue_id(new.queue)
        job_class = txn.names.class_id(new.task, new.kind)
        due_at = new.due_at if new.due_at is not None else now + new.delay_s
        is_due = due_at <= now
        order = rank(new.priority, now if is_due else due_at, ageing_s=new.ageing_s)
        expires_at = new.expires_at if new.expires_s is None else now + new.expires_s
        if is_due:
            self._ready.append((queue, new.lane, job_class, order, n))
            txn.count(queue, READY, 1)
        else:
            self._deferred.append((due_at, n))
            txn.count(queue, SCHEDULED, 1)
        if expires_at is not None:
            self._expiring.append((expires_at, n))
        if new.unique:
            self._uniques.append((new.unique, n))
        self._tags += [(tag, n) for tag in new.tags]
        body: bytes | None = new.body
        if len(new.body) > INLINE_BYTES:
            self._payloads.append((n, new.body))
            body = None
        self._jobs.append(
            (
                n, new.id, job_class, queue, new.lane, new.priority, order, now,
                None if is_due else due_at, expires_at, new.ageing_s, new.keep_s, new.keep_failed_s,
                new.remember_s, new.max_receives, new.unique or None,
                msgspec.json.encode(new.tags).decode() if new.tags else None, new.options, body,
            )
        )  # fmt: skip

    def write(self) -> None:
        """Insert what was gathered."""
        many = self._txn.many
        many(_JOB, self._jobs)
        many(_READY, self._ready)
        many(_SQL["payload"], self._payloads)
        many(_SQL["deferred"], self._deferred)
        many(_SQL["expiring"], self._expiring)
        many(_SQL["uniq"], self._uniques)
        many(_SQL["tag"], self._tags)
