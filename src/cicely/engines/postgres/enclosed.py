"""Enqueueing inside the caller's transaction: the same statements, on a connection that is not ours.

Its settings are left alone: table names are written with their schema. It only inserts, so that a
transaction of minutes keeps nobody else waiting, unless it holds the id or unique key that they want.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from functools import cache
from typing import Final, TypeVar

import psycopg
from psycopg.rows import tuple_row

from cicely.core.job import Enqueued, NewJob
from cicely.engines.postgres import blobs, enqueueing, workflows
from cicely.engines.postgres.callers import Caller
from cicely.engines.postgres.streams import Unplaced
from cicely.engines.postgres.transaction import Retry, Transaction
from cicely.engines.postgres.transactions import Transactions
from cicely.engines.postgres.wire import Bindings, Link, OneByOne, Values
from cicely.errors import BacklogFull, EngineError, UsageError

T = TypeVar("T")

_TABLE: Final = re.compile(
    r"\b(FROM|INTO|JOIN) "
    r"(job|tomb|ready|deferred|expiring|tag|delta|uniq|blob|blob_watch|ready_turn|delta_turn|label|node|held"
    r"|workflow|queue|came|came_turn|valve|counter|gate|band|stream|intent)\b"
)
_SEQUENCE: Final = "nextval('job_n')"
_CLOCK: Final = "SELECT extract(epoch FROM clock_timestamp())::float8"
_SAVEPOINT: Final = "SAVEPOINT cicely_enqueue"
_RELEASE: Final = "RELEASE SAVEPOINT cicely_enqueue"
_BACK: Final = "ROLLBACK TO SAVEPOINT cicely_enqueue"
_MOST_REPEATS: Final = 12

#: Which database this is, however it was reached: the server's start, the database, our table in it.
IDENTITY: Final = (
    "SELECT extract(epoch FROM pg_postmaster_start_time())::float8, current_database()::text, "
    "coalesce(to_regclass(%s)::oid::bigint, 0)"
)


@cache
def qualified(statement: str, schema: str) -> str:
    """Return a statement that finds our tables whatever the search path is."""
    statement = statement.replace(_SEQUENCE, f"nextval('{schema}.job_n')")
    return _TABLE.sub(rf'\1 "{schema}".\2', statement)


class Enclosed:
    """Our statements in one transaction of the caller's."""

    def __init__(self, caller: Caller, transactions: Transactions) -> None:
        self._caller = caller
        self._transactions = transactions
        self._address = transactions.address
        self._check_database()

    def _check_database(self) -> None:
        if self._caller.link in self._transactions.checked:
            return
        name = f"{self._address.schema}.meta"
        [theirs] = self._run(lambda: _rows(self._caller.link, IDENTITY, (name,)))
        if theirs != self._transactions.identity(IDENTITY, name):
            raise UsageError(
                f"connection= leads to database {theirs[1]!r} of a server that is not {self._address.shown}, "
                "or has no tables of Cicely there: a job must be stored where the transaction is"
            )
        self._transactions.checked.add(self._caller.link)

    def enqueue(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        """Store all of `jobs`, or none."""
        self._transactions.learn_names(jobs)
        txn = self._transaction(self._transactions.given_now)
        if not enqueueing.is_plain(jobs):
            answers = self._run(lambda: self._repeatedly(txn, jobs))
        else:
            given_now = self._transactions.given_now
            try:
                answers = self._run(lambda: enqueueing.enqueue_plain(txn, jobs, given_now))
            except enqueueing.Asked:
                answers = self._run(lambda: self._repeatedly(txn, jobs))
        work = enqueueing.work_of(job for job in jobs if job.delay_s <= enqueueing.SOON_S)
        self._caller.after_commit(lambda: self._transactions.ring_soon(work))
        return answers

    def _repeatedly(self, txn: Transaction, jobs: Sequence[NewJob]) -> list[Enqueued]:
        """Store jobs that are not plain; what another transaction changed meanwhile is looked at again."""
        for _ in range(_MOST_REPEATS):
            _execute(txn.link, _SAVEPOINT, None)
            try:
                answers = workflows.enqueue_any(txn, jobs, ())
            except Retry:
                _execute(txn.link, _BACK, None)
            except Unplaced as missing:
                _execute(txn.link, _BACK, None)
                self._transactions.learn_places(missing)
            except BacklogFull:
                _execute(txn.link, _BACK, None)
                raise
            else:
                _execute(txn.link, _RELEASE, None)
                return answers
        raise EngineError(
            "the holder of a unique key comes and goes, or the transaction of connection= does not see it "
            "(REPEATABLE READ): roll it back and begin again"
        )

    def put_blob(self, job_id: str, digest: str, data: bytes) -> None:
        """Keep a value; a rollback takes it along."""
        txn = self._transaction(self._now())
        self._run(lambda: blobs.put_blob(txn, job_id, digest, data))

    def get_blob(self, job_id: str, digest: str) -> bytes | None:
        """Return a value, or None."""
        txn = self._transaction(self._transactions.given_now)
        return self._run(lambda: blobs.get_blob(txn, job_id, digest))

    def _transaction(self, now: float | None) -> _EnclosedTransaction:
        return _EnclosedTransaction(self._caller.link, self._transactions, now=now)

    def _now(self) -> float:
        given = self._transactions.given_now
        if given is not None:
            return given
        [(now,)] = self._run(lambda: _rows(self._caller.link, _CLOCK, None))
        return float(now)

    def _run(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except psycopg.Error as error:
            words = self._address.scrubbed((str(error).splitlines() or [type(error).__name__])[0])
            raise EngineError(
                f"the transaction of connection= cannot go on ({words}): roll it back, then it may be "
                "repeated from its beginning"
            ) from error


class _EnclosedTransaction(Transaction):
    """Runs statements with the tables' full names, by cursors that the caller's settings do not change."""

    is_callers = True

    def __init__(self, link: Link, transactions: Transactions, *, now: float | None) -> None:
        # now is None: the server's.
        super().__init__(link, transactions.names, {}, wire=OneByOne(link), now=now)  # type: ignore[arg-type]
        self._schema = transactions.address.schema

    def execute(self, statement: str, bindings: Bindings | None = None) -> None:
        _execute(self.link, qualified(statement, self._schema), bindings)

    def rows(self, statement: str, bindings: Bindings | None = None) -> list[Values]:
        return _rows(self.link, qualified(statement, self._schema), bindings)

    def rows_of_all(self, statement: str, bindings: Bindings | None = None) -> list[Values]:
        return self.rows(statement, bindings)

    def many(self, statement: str, bindings: Collection[Values]) -> None:
        for one in bindings:
            self.execute(statement, one)


def _execute(link: Link, statement: str, bindings: Bindings | None) -> psycopg.Cursor[Values]:
    # Not link.cursor(): the caller may have cursors of another kind, and rows of another shape.
    return psycopg.Cursor(link, row_factory=tuple_row).execute(statement, bindings, binary=True)


def _rows(link: Link, statement: str, bindings: Bindings | None) -> list[Values]:
    return _execute(link, statement, bindings).fetchall()
