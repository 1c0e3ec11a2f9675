"""One open transaction: what its verbs share, and what is to be done when it has been committed."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable
from typing import Any, Final, Protocol

import apsw
import msgspec

from cicely.core.states import State
from cicely.engines.sqlite.member import Member
from cicely.engines.sqlite.names import Names
from cicely.engines.sqlite.record import Record
from cicely.engines.sqlite.statements import statements

SCHEDULED, READY, RUNNING, SUCCEEDED, FAILED, CANCELLED, EXPIRED, WAITING = range(8)

#: How a state is stored: never to change, there are files.
CODES: Final = {
    State.SCHEDULED: SCHEDULED,
    State.READY: READY,
    State.RUNNING: RUNNING,
    State.SUCCEEDED: SUCCEEDED,
    State.FAILED: FAILED,
    State.CANCELLED: CANCELLED,
    State.EXPIRED: EXPIRED,
    State.WAITING: WAITING,
}
STATES: Final = tuple(sorted(CODES, key=lambda state: CODES[state]))

#: What a job has beside its row: a row in node, edges into it, edges out of it, steps, a workflow.
NODE, PARENTS, CHILDREN, STEPS, WORKFLOW = 1, 2, 4, 8, 16
#: Its starts and successes are told of: nothing that stands in another table.
WATCHED = 32

#: Token = the claim's request + n and the low bits of the fence, so that no index is needed.
REQUEST_BYTES: Final = 8
TOKEN_BYTES: Final = 2 * REQUEST_BYTES
_FENCE_BITS: Final = 24
FENCE_MASK: Final = (1 << _FENCE_BITS) - 1

_COUNT: Final = statements("enqueue")["count"]
_PAST: Final = statements("past")

_encode = msgspec.msgpack.Encoder().encode

#: What `apsw.carray` makes: a table of values, bound as one.
Array = Any

#: What apsw hands out for a row; the statement beside each use says what it holds.
Values = tuple[Any, ...]


class Unwritten(Protocol):
    """What a transaction gathers, to be written before others look."""

    def write(self) -> None:
        """Store it."""


class Transaction:
    """The statements of one commit run here; counters are written once, at its end."""

    def __init__(
        self, connection: apsw.Connection, names: Names, members: dict[str, Member], *, now: float
    ) -> None:
        self.execute = connection.execute
        self.executemany = connection.executemany
        self.names = names
        self.members = members
        self.now = now
        #: Ids of jobs that ended, and keys of sessions whose children have cancellations.
        self.ended: list[str] = []
        self.called: list[str] = []
        #: Whether there may be something to claim for a waiting session.
        self.is_stirred = False
        #: Whether jobs became ready, and who has looked since, with whether it took something.
        self.is_fresh = False
        self.lookers: dict[str, bool] = {}
        #: Whether there may be intents: see agenda.py.
        self.may_have_intents = False
        self._counts: dict[tuple[int, int], int] = {}
        #: What is counted and told.
        self.record = Record(now)
        #: Flow control, once something is gated: see gates.py.
        self.gates: Unwritten | None = None

    def rows(self, statement: str, bindings: Values = ()) -> list[Values]:
        """Run a statement and return all its rows."""
        return self.execute(statement, bindings).fetchall()

    def row(self, statement: str, bindings: Values = ()) -> Values | None:
        """Run a statement and return its first row."""
        rows = self.execute(statement, bindings).fetchall()
        return rows[0] if rows else None

    def many(self, statement: str, bindings: Collection[Values]) -> None:
        """Run a statement once for each of `bindings`."""
        if bindings:
            self.executemany(statement, bindings)

    def mark(self) -> Values:
        """Return what `go_back` needs to forget what a refused call left behind."""
        return (
            len(self.ended), len(self.called), self.is_stirred, self.is_fresh, dict(self.lookers),
            dict(self._counts), self.record.mark(),
        )  # fmt: skip

    def go_back(self, mark: Values) -> None:
        """Forget what came after `mark`."""
        self.gates = None
        ended, called, self.is_stirred, self.is_fresh, self.lookers, self._counts, past = mark
        self.record.go_back(past)
        del self.ended[ended:], self.called[called:]

    def freshen(self) -> None:
        """Note that jobs became ready: nobody has looked at them yet."""
        self.is_stirred = self.is_fresh = True
        self.lookers.clear()

    def count(self, queue: int, state: int, jobs: int) -> None:
        """Note that so many jobs came to a state (or left it, if negative)."""
        key = (queue, state)
        self._counts[key] = self._counts.get(key, 0) + jobs

    def move(self, queue: int, source: int, target: int) -> None:
        """Note that a job went from one state to another."""
        self.count(queue, source, -1)
        self.count(queue, target, 1)

    def has_counted(self, queue: int) -> bool:
        """Return whether jobs of a queue came or went in this transaction."""
        return any(counted == queue for counted, _ in self._counts)

    def counted(self, queue: int, state: int) -> int:
        """Return how many jobs came to a state in this transaction."""
        return self._counts.get((queue, state), 0)

    def write_gates(self) -> None:
        """Write what flow control gathered."""
        if self.gates is not None:
            self.gates.write()

    def write_counts(self) -> None:
        """Fold what was noted into the counters, and write down the past."""
        changed = [(*key, jobs) for key, jobs in self._counts.items() if jobs]
        self.many(_COUNT, changed)
        self._counts.clear()
        self.write_past()

    def write_past(self) -> None:
        """Write what was counted and told."""
        self.many(_PAST["add"], self.record.rows())
        events = self.record.events
        if events:
            self.many(_PAST["tell"], [(event.at, _encode(event)) for event in events])
            events.clear()


def state_of(code: int) -> State:
    """Return the state that is stored so; what was damaged by hand shows as failed."""
    return STATES[code] if 0 <= code < len(STATES) else State.FAILED


def tags_of(stored: str | None) -> tuple[str, ...]:
    """Return a job's tags; none where they were damaged by hand."""
    if stored is None:
        return ()
    try:
        return msgspec.json.decode(stored, type=tuple[str, ...])
    except msgspec.DecodeError:
        return ()


def numbers(values: Iterable[int]) -> Array | None:
    """Return integers as one binding; None, an empty table to SQLite, where there are none."""
    packed = array("q", values)
    return apsw.carray(packed) if packed else None


def texts(values: Iterable[str]) -> Array | None:
    """Return texts as one binding."""
    packed = tuple(values)
    return apsw.carray(packed) if packed else None


def token_of(request: bytes, n: int, fence: int) -> bytes:
    """Return the token of a claim."""
    return request + (n << _FENCE_BITS | fence & FENCE_MASK).to_bytes(8, "big")


def number_in(token: bytes) -> int:
    """Return the n that a token names; -1 for what is no token."""
    if len(token) != TOKEN_BYTES:
        return -1
    return int.from_bytes(token[REQUEST_BYTES:], "big") >> _FENCE_BITS


def is_token_of(token: bytes, request: bytes, fence: int) -> bool:
    """Return whether `token`, which names this job already, is of this very claim."""
    low = int.from_bytes(token[REQUEST_BYTES:], "big") & FENCE_MASK
    return token[:REQUEST_BYTES] == request and low == fence & FENCE_MASK
