"""Group commit: threads that write at the same time share one transaction and one fsync.

Whoever gets the connection carries out all that is pending, in one transaction with a savepoint per
call; the others find their answers when it lets go.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar, cast

import apsw

from cicely.core.failpoints import failpoint
from cicely.engines.sqlite.bells import Bells
from cicely.engines.sqlite.faults import translated
from cicely.engines.sqlite.member import Member
from cicely.engines.sqlite.names import Names
from cicely.engines.sqlite.news import Ring, rings
from cicely.engines.sqlite.place import Place
from cicely.engines.sqlite.transaction import Transaction
from cicely.engines.sqlite.turnstile import Turnstile
from cicely.errors import EngineError, EngineUnavailable

T = TypeVar("T")

Work = Callable[[Transaction], T]

_LARGEST_GROUP: Final = 64
_DRIVER_ERRORS: Final = (apsw.Error, UnicodeDecodeError)


class _Call(Generic[T]):
    """A verb that somebody waits for."""

    __slots__ = ("_error", "_news", "_result", "is_done", "verb", "work")

    def __init__(self, verb: str, work: Work[T]) -> None:
        self.verb = verb
        self.work = work
        self.is_done = False
        self._news: threading.Event | None = None
        self._result: T | None = None
        self._error: BaseException | None = None

    def succeed(self, result: T) -> None:
        """Answer with a result."""
        self._result = result
        self.is_done = True
        self.wake()

    def fail(self, error: BaseException) -> None:
        """Answer with an error."""
        self._error = error
        self.is_done = True
        self.wake()

    def wake(self) -> None:
        """Have the caller look: for its answer, or for a connection that is free."""
        if self._news is not None:
            self._news.set()

    def listen(self) -> threading.Event:
        """Return what `wake` sets; the caller looks once more before it waits."""
        if self._news is None:
            self._news = threading.Event()
        self._news.clear()
        return self._news

    def answer(self) -> T:
        """Return the result, or raise the error."""
        if self._error is not None:
            raise self._error
        return cast(T, self._result)


class Commits:
    """The writing connection of one process."""

    def __init__(
        self,
        connection: apsw.Connection,
        *,
        place: Place,
        turnstile: Turnstile,
        bells: Bells,
        now: Callable[[], float],
        busy_timeout_s: float,
    ) -> None:
        self._connection: apsw.Connection | None = connection
        self._place = place
        self._turnstile = turnstile
        self._bells = bells
        self._now = now
        self._busy_timeout_s = busy_timeout_s
        self._mutex = threading.Lock()
        self._pending: deque[_Call[Any]] = deque()
        self._names = Names(connection)
        self._members: dict[str, Member] = {}
        self._is_held = False
        self._is_closed = False

    def close(self) -> None:
        """Close the connection, when nobody uses it."""
        with self._mutex:
            self._is_closed = True
            self._disconnect()
        self._wake_next()

    def hold(self, timeout_s: float) -> bool:
        """Close the connection when nobody uses it, and let nobody begin; False if it stays in use."""
        self._is_held = True
        if not self._mutex.acquire(timeout=timeout_s):
            self._is_held = False
            return False
        self._disconnect()
        return True

    def let_go(self) -> None:
        """Let calls begin again."""
        self._is_held = False
        self._mutex.release()
        self._wake_next()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connected(self) -> apsw.Connection:
        if self._connection is None:
            if self._is_closed:
                raise EngineError(f"{self._place.path} was closed by another thread; open it anew")
            self._connection = self._place.connect()
            self._names = Names(self._connection)
        return self._connection

    def run(self, verb: str, work: Work[T]) -> T:
        """Carry out one verb in a transaction, and return its answer once it is committed."""
        call = _Call(verb, work)
        self._pending.append(call)
        if not self._lead(call):
            self._wait(call)
        return call.answer()

    def _lead(self, call: _Call[Any]) -> bool:
        """Carry out what is pending, if the connection is free; return whether `call` is done."""
        # Those who come while a fork waits for the connection queue up behind it.
        if self._is_held or not self._mutex.acquire(blocking=False):
            return call.is_done
        try:
            if not call.is_done:
                self._commit_pending()
        finally:
            self._mutex.release()
            self._wake_next()
        return call.is_done

    def _wake_next(self) -> None:
        """Let one of those who came meanwhile go on from here."""
        with contextlib.suppress(IndexError):
            self._pending[0].wake()

    def _wait(self, call: _Call[Any]) -> None:
        give_up_at = time.monotonic() + 2 * self._busy_timeout_s
        try:
            while True:
                news = call.listen()
                if self._lead(call):
                    return
                if not news.wait(give_up_at - time.monotonic()):
                    self._withdraw(call)
                    return
        except BaseException:
            # Ctrl-C: it may have been woken just now to go on for the others.
            with contextlib.suppress(ValueError):
                self._pending.remove(call)
            self._wake_next()
            raise

    def _withdraw(self, call: _Call[Any]) -> None:
        try:
            self._pending.remove(call)
        except ValueError:
            # It is being carried out just now: its end is worth waiting for.
            with self._mutex:
                return
        # It may have been woken just now to go on for the others.
        self._wake_next()
        call.fail(
            EngineUnavailable(
                f"{self._place.path}: other threads of this process kept the connection for "
                f"{2 * self._busy_timeout_s:g} s; the call may be repeated"
            )
        )

    def _commit_pending(self) -> None:
        calls = [self._pending.popleft() for _ in range(min(len(self._pending), _LARGEST_GROUP))]
        try:
            committed = self._under_lock(calls)
        except Exception as error:  # noqa: BLE001  (every caller gets it)
            _fail(calls, error)
            return
        except BaseException:
            # A signal hit this thread (Ctrl-C); the others may call again.
            _fail(calls, EngineUnavailable("the thread that wrote for this one was interrupted"))
            raise
        for txn, ready in committed:
            self._ring(txn, ready)

    def _under_lock(self, calls: list[_Call[Any]]) -> list[tuple[Transaction, list[Ring]]]:
        self._place.check()
        self._turnstile.acquire(self._busy_timeout_s)
        try:
            return self._carry_out(calls)
        except BaseException:
            self._roll_back()
            raise
        finally:
            self._turnstile.release()

    def _carry_out(self, calls: list[_Call[Any]]) -> list[tuple[Transaction, list[Ring]]]:
        if len(calls) == 1:
            return self._alone(calls[0])
        try:
            return [self._together(calls)]
        except _DRIVER_ERRORS:
            self._roll_back()
        return [done for call in calls for done in self._alone(call)]

    def _alone(self, call: _Call[Any]) -> list[tuple[Transaction, list[Ring]]]:
        try:
            txn = self._begin()
            result = call.work(txn)
            ready = self._commit(txn, [call])
        except _DRIVER_ERRORS as error:
            self._roll_back()
            refusal = translated(error, self._place.path)
            refusal.__cause__ = error
            call.fail(refusal)
            return []
        call.succeed(result)
        return [(txn, ready)]

    def _together(self, calls: list[_Call[Any]]) -> tuple[Transaction, list[Ring]]:
        """Carry out several calls; one that is refused leaves nothing, the others stay."""
        txn = self._begin()
        answers: list[tuple[_Call[Any], Any]] = []
        refusals: list[tuple[_Call[Any], Exception]] = []
        for call in calls:
            txn.execute("SAVEPOINT call")
            mark = txn.mark()
            try:
                answer = call.work(txn)
                txn.write_gates()
                answers.append((call, answer))
            except _DRIVER_ERRORS:
                raise
            except Exception as refusal:  # noqa: BLE001  (it is the caller's, and is raised there)
                refusals.append((call, refusal))
                txn.execute("ROLLBACK TO call")
                txn.go_back(mark)
                self._names.forget()
            txn.execute("RELEASE call")
        ready = self._commit(txn, calls)
        for call, answer in answers:
            call.succeed(answer)
        for call, error in refusals:
            call.fail(error)
        return txn, ready

    def _begin(self) -> Transaction:
        connection = self._connected()
        connection.execute("BEGIN IMMEDIATE")
        return Transaction(connection, self._names, self._members, now=self._now())

    def _commit(self, txn: Transaction, calls: list[_Call[Any]]) -> list[Ring]:
        txn.write_gates()
        txn.write_counts()
        ready = rings(txn, self._bells)
        for call in calls:
            failpoint(f"sqlite.{call.verb}.before_commit")
        txn.execute("COMMIT")
        for call in calls:
            failpoint(f"sqlite.{call.verb}.after_commit")
        return ready

    def _roll_back(self) -> None:
        self._names.forget()
        self._members.clear()
        if self._connection is not None and self._connection.in_transaction:
            with contextlib.suppress(apsw.Error):
                # Where the disk fails SQLite may have rolled back by itself.
                self._connection.execute("ROLLBACK")

    def _ring(self, txn: Transaction, ready: list[Ring]) -> None:
        for index, slot in ready:
            if self._bells.ring(index, slot):
                break
        if txn.ended:
            self._bells.ring_results(txn.ended)
        if txn.called:
            self._bells.ring_owners(txn.called)


def _fail(calls: list[_Call[Any]], error: Exception) -> None:
    for call in calls:
        if not call.is_done:
            call.fail(error)
