"""Carries out verbs: one transaction each, repeated where another was in the way, and a ring after it."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

import psycopg
from psycopg import errors

from cicely.core.failpoints import failpoint
from cicely.core.job import NewJob
from cicely.engines.postgres.connections import Connections
from cicely.engines.postgres.days import look_after_days
from cicely.engines.postgres.faults import translated
from cicely.engines.postgres.member import Member
from cicely.engines.postgres.names import Names, Unnamed, add
from cicely.engines.postgres.news import Custom, News
from cicely.engines.postgres.releasing import fold, ripe
from cicely.engines.postgres.ringer import Ringer
from cicely.engines.postgres.standing import streams_of
from cicely.engines.postgres.streams import Unplaced, give_numbers
from cicely.engines.postgres.transaction import Retry, Transaction
from cicely.engines.postgres.turning import TURN_EVERY, turn
from cicely.engines.postgres.undoing import carry_on
from cicely.engines.postgres.wire import Link, Stale, Values, Wired
from cicely.errors import EngineUnavailable

log = logging.getLogger("cicely")

T = TypeVar("T")

Work = Callable[[Transaction], T]

_MOST_REPEATS: Final = 12
_PAUSE_S: Final = 0.002
#: So many intents are carried out behind a call.
_CARRIED_ON: Final = 16

_CLOCK: Final = "SELECT extract(epoch FROM clock_timestamp())::float8"
_WRITE: Final = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
_READ: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
#: Before the snapshot is taken: what it sees in these parts must not be emptied while it is looked at.
_PARTS_STAY: Final = "LOCK TABLE run, ready, delta, came, holder, ONLY done IN ACCESS SHARE MODE"
_IN_THE_WAY: Final = (errors.DeadlockDetected, errors.SerializationFailure, Retry)


class Transactions:
    """The verbs of one process."""

    def __init__(self, connections: Connections, *, now: Callable[[], float] | None) -> None:
        self._connections = connections
        self.address = connections.address
        self._now = now
        #: Connections of callers that lead to this very database.
        self.checked: weakref.WeakSet[Link] = weakref.WeakSet()
        self.names = Names()
        self._naming = threading.Lock()
        self._taken = 0
        self._has_left_over = False
        self._members: dict[str, Member] = {}
        self._custom = Custom()
        self._ringer = Ringer(self._ring_later)
        # Behind a pooler each transaction may run on another connection of the server: it brings its
        # settings along, and rings nobody.
        self.is_pooled = connections.address.pooler != "none"
        local = [connections.settings(is_local=True).as_string()] if self.is_pooled else []
        self._begin_write = [_WRITE, *local, _CLOCK]
        self._begin_read = [_READ, *local, _PARTS_STAY, _CLOCK]

    @property
    def given_now(self) -> float | None:
        """The instant that tests set; None where the server's clock rules."""
        return self._now() if self._now is not None else None

    def write(self, verb: str, work: Work[T]) -> T:
        """Carry out one verb in a transaction, and return its answer once it is committed."""

        def once(link: Wired) -> T:
            txn = self._begin(link, self._begin_write)
            result = work(txn)
            txn.write_last()
            failpoint(f"postgres.{verb}.before_commit")
            news = self._commit(txn)
            failpoint(f"postgres.{verb}.after_commit")
            _tell(news)
            self._turn_after(txn.taken, link)
            self._has_left_over |= txn.takes_over
            self._finish_after(txn, link)
            self._has_left_over |= txn.left_over
            return result

        return self._carried_out(once)

    def _finish_after(self, txn: Transaction, link: Wired) -> None:
        """Fold what has arrived at jobs behind this call's; and do a page of what earlier calls left."""
        if not txn.arrived and not self._has_left_over:
            return
        # The verb was carried out, whatever becomes of this: a sweep does it as well.
        try:
            if self._has_left_over:
                self._has_left_over = False
                self._beside(link, lambda beside: carry_on(beside, _CARRIED_ON))
            while txn.arrived and (wanted := ripe(txn, txn.arrived)):
                txn = self._beside(link, partial(fold, ns=wanted))
        except _IN_THE_WAY:
            link.execute("ROLLBACK")
        except psycopg.Error as error:
            log.warning("what comes after some jobs is left to a sweep: %s", error)
            link.close()

    def _beside(self, link: Wired, work: Work[object]) -> Transaction:
        """Carry out something in a transaction of its own, behind a verb's, which is not repeated for it."""
        for _ in range(_MOST_REPEATS):
            try:
                return self._beside_once(link, work)
            except (Unnamed, Unplaced) as missing:
                link.execute("ROLLBACK")
                self._give_numbers(missing, link)
        raise Retry

    def _beside_once(self, link: Wired, work: Work[object]) -> Transaction:
        txn = self._begin(link, self._begin_write)
        work(txn)
        txn.write_last()
        failpoint("postgres.beside.before_commit")
        news = self._commit(txn)
        self._has_left_over = self._has_left_over or txn.left_over
        _tell(news)
        return txn

    def _commit(self, txn: Transaction) -> News | None:
        """Commit, and return what was asked behind it; when this returns, it lasts as the durability says."""
        if txn.wire.is_fresh:
            # Nothing was asked yet: a connection that broke is found while it may still be replaced.
            txn.wire.send()
        txn.execute("COMMIT")
        news = self._news_behind(txn)
        txn.wire.send()
        return news

    def _news_behind(self, txn: Transaction) -> News | None:
        if self.is_pooled:
            return None
        txn.wire.part()
        return News(txn, self._custom)

    def by_itself(self, work: Callable[[Wired], T]) -> T:
        """Ask the server things that are about no job, each statement by itself."""

        def once(link: Wired) -> T:
            if not self.is_pooled:
                return work(link)
            self._open(link)
            answer = work(link)
            link.execute(b"COMMIT")
            return answer

        return self._carried_out(once)

    def _turn_after(self, taken: int, link: Wired) -> None:
        self._taken += taken
        if self._taken < TURN_EVERY:
            return
        self._taken = 0
        # Upkeep: the verb was carried out, whatever becomes of it.
        try:
            turn(link, lambda: self._open(link))
            look_after_days(link, lambda: self._open(link), self.given_now)
        except psycopg.Error as error:
            log.warning("the parts of some tables stay as they are: %s", error)
            link.close()

    def read(self, work: Work[T]) -> T:
        """Carry out a reading verb in one snapshot."""

        def once(link: Wired) -> T:
            txn = self._begin(link, self._begin_read)
            result = work(txn)
            txn.rows("COMMIT")
            return result

        return self._carried_out(once)

    def look(self, work: Work[T]) -> T:
        """Carry out a reading verb that is one statement, and thereby one snapshot."""
        if self.is_pooled:
            return self.read(work)

        def once(link: Wired) -> T:
            txn = self._alone(link)
            txn.wire.start()
            return work(txn)

        return self._carried_out(once)

    def at_once(self, verb: str, work: Work[T]) -> T:
        """Carry out a verb that is one statement, which is a transaction by itself."""

        def once(link: Wired) -> T:
            txn = self._alone(link)
            news: News | None = None

            def ring() -> None:
                nonlocal news
                if txn.work and self._ringer.may_ring_now():
                    txn.is_stirred = True
                    news = self._news_behind(txn)

            txn.behind = ring
            failpoint(f"postgres.{verb}.before_commit")
            result = work(txn)
            failpoint(f"postgres.{verb}.after_commit")
            if news is not None:
                _tell(news)
            elif txn.is_stirred:
                self._ringer.ring_soon(txn.work or ())
            return result

        return self._carried_out(once)

    def learn_names(self, jobs: Sequence[NewJob]) -> None:
        """Give each queue and class of `jobs` its number, in a transaction of our own."""

        def look() -> None:
            for job in jobs:
                self.names.class_id(job.task, job.kind)
                self.names.queue_id(job.queue)
            streams_of(jobs, self.names)

        try:
            look()
        except (Unnamed, Unplaced):
            self._carried_out(lambda link: look())

    def learn_places(self, missing: Unplaced) -> None:
        """Give streams their numbers, in a transaction of our own."""
        self._carried_out(lambda link: self._place(missing, link))

    def identity(self, statement: str, name: str) -> Values:
        """Return which database this is."""
        return self._carried_out(lambda link: link.execute(statement, (name,), binary=True).fetchall()[0])

    def ring_soon(self, work: set[tuple[str, str]]) -> None:
        """Ring for what somebody else commits about now."""
        self._ringer.ring_soon(work)

    def _ring_later(self, work: set[tuple[str, str]]) -> None:
        with self._connections.one() as link:
            txn = self._alone(link)
            txn.work, txn.is_stirred = list(work), True
            news = self._news_behind(txn)
            txn.wire.send()
            _tell(news)

    def close(self) -> None:
        """Ring for what was stored."""
        self._ringer.close()

    def _carried_out(self, once: Callable[[Wired], T]) -> T:
        is_second = False
        repeats = 0
        while repeats < _MOST_REPEATS:
            try:
                with self._connections.one() as link:
                    try:
                        return self._tried(link, once)
                    except (Unnamed, Unplaced) as missing:
                        self._give_numbers(missing, link)
                    except _IN_THE_WAY:
                        repeats += 1
                        time.sleep(_PAUSE_S)
            except Stale as stale:
                self._connections.forget_idle()
                if is_second:
                    raise translated(stale.error, self._connections.address) from stale.error
                is_second = True
            except psycopg.Error as error:
                if isinstance(error, psycopg.OperationalError):
                    self._connections.forget_idle()
                raise translated(error, self._connections.address) from error
        raise EngineUnavailable(
            f"{self._connections.address.shown}: other transactions were in the way {_MOST_REPEATS} times; "
            "the call may be repeated"
        )

    def _tried(self, link: Wired, once: Callable[[Wired], T]) -> T:
        try:
            return once(link)
        except BaseException:
            link.wire.forget()
            if not link.closed and link.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                with contextlib.suppress(psycopg.Error):
                    link.execute("ROLLBACK")
            raise

    def _give_numbers(self, missing: Unnamed | Unplaced, link: Wired) -> None:
        if isinstance(missing, Unnamed):
            self._name(missing, link)
        else:
            self._place(missing, link)

    def _name(self, missing: Unnamed, link: Wired) -> None:
        # Learned after the commit: a number that a crash took back must not be remembered.
        with self._naming:
            add(missing, self._open(link).link)
            link.execute(b"COMMIT")
            self.names.read(self._open(link).link)
            link.execute(b"COMMIT")

    def _place(self, missing: Unplaced, link: Wired) -> None:
        """Give streams their numbers."""
        txn = self._open(link)
        names = {place.queue: txn.queue_name(place.queue) for place in missing.places}
        numbers = give_numbers(link, missing.places, names)
        link.execute(b"COMMIT")
        self.names.streams.learn(numbers)

    def _open(self, link: Wired) -> Transaction:
        """Begin a transaction that goes on by the connection itself."""
        txn = self._begin(link, self._begin_write)
        txn.wire.send()
        return txn

    def _begin(self, link: Wired, begin: Sequence[str]) -> Transaction:
        txn = self._alone(link)
        clock = txn.wire.begin(begin)
        if self._now is None:
            txn.know_clock(clock)
        return txn

    def _alone(self, link: Wired) -> Transaction:
        now = self._now() if self._now else 0.0
        return Transaction(link, self.names, self._members, wire=link.wire, now=now)


def _tell(news: News | None) -> None:
    # A ring is a hint: the verb was carried out, whatever becomes of it.
    if news is not None:
        with contextlib.suppress(psycopg.Error):
            news.tell()
