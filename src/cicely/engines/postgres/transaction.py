"""One open transaction: what its verbs share, and what is to be done when it has been committed."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final

import msgspec

from cicely.core.job import Kind
from cicely.core.states import State
from cicely.engines.postgres.member import Member
from cicely.engines.postgres.names import Names
from cicely.engines.postgres.record import CELL, Record
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.wire import Answer, Bindings, Link, Values, Wire

#: How a state is stored; the columns of delta and counter stand in this order, too. New ones go to the end.
STATES: Final = (
    State.SCHEDULED, State.READY, State.RUNNING, State.SUCCEEDED, State.FAILED, State.CANCELLED,
    State.EXPIRED, State.WAITING,
)  # fmt: skip
CODES: Final = {state: code for code, state in enumerate(STATES)}
SCHEDULED, READY, RUNNING, SUCCEEDED, FAILED, CANCELLED, EXPIRED, WAITING = range(8)

#: Token = the claim's request + n and the low bits of the fence, so that no index is needed.
REQUEST_BYTES: Final = 8
TOKEN_BYTES: Final = 2 * REQUEST_BYTES
_FENCE_BITS: Final = 24
FENCE_MASK: Final = (1 << _FENCE_BITS) - 1

#: In place of (queue, task) of new work: what it is has to be looked up.
GATED_WORK: Final = ("\0", "")

_COUNTS: Final = statements("count")
_COUNT: Final = _COUNTS["add"]
_PAST: Final = statements("past")


class Retry(Exception):
    """Another transaction was in the way: begin again, and see what it left."""


class Transaction:
    """The statements of one commit run here; counters are written once, at its end.

    What answers nothing is sent with the next question, or with the commit.
    """

    #: Whether it is of somebody else, who commits it.
    is_callers = False

    def __init__(
        self,
        link: Link,
        names: Names,
        members: dict[str, Member],
        *,
        wire: Wire,
        now: float,
    ) -> None:
        self.link = link
        self.wire = wire
        self.names = names
        self.members = members
        self._now = now
        self._clock: Answer | None = None
        #: Ids of jobs that ended, and keys of sessions whose children have cancellations.
        self.ended: list[str] = []
        self.called: list[str] = []
        #: Whether there may be new work for a waiting session, and which one not to wake for it.
        self.is_stirred = False
        self.claimer = ""
        self.passed_on = False
        #: (queue, task) of the new work, where that is known already.
        self.work: list[tuple[str, str]] | None = None
        #: How many jobs were taken from `ready`: after some thousand its parts are looked after.
        self.taken = 0
        #: Jobs at which decided edges have arrived; whether intents were left; how often others were moved.
        self.arrived: set[int] = set()
        self.left_over = False
        #: Whether a page of the intents that were found is to be carried out behind this call.
        self.takes_over = False
        self.spread = 0
        #: Of a transaction that is one statement: asks what is to be known behind it.
        self.behind: Callable[[], object] = _nothing
        #: Asks at the last moment what is to be known of those who have become ready.
        self.ahead: Callable[[], object] = _nothing
        #: The flow control of this call (gates.py), once something in it is gated.
        self.gates: Any = None
        #: Whether there are gated queues, as far as this call knows.
        self.is_flowing = True
        self._counts: dict[int, list[int]] = {}
        self._record: Record | None = None

    def know_clock(self, clock: Answer) -> None:
        """Take the instant of the call from the server, once it is asked for."""
        self._clock = clock

    @property
    def now(self) -> float:
        """The instant of the call."""
        if self._clock is not None:
            [(self._now,)] = self.heard(self._clock)
            self._clock = None
        return self._now

    @property
    def record(self) -> Record:
        """What this call writes down of its moves."""
        if self._record is None:
            self._record = Record(self.now)
        return self._record

    def execute(self, statement: str, bindings: Bindings | None = None) -> None:
        """Run a statement that answers nothing, before the next one that does."""
        self.wire.add(statement, bindings)

    def later(self, statement: str, bindings: Bindings | None = None) -> Answer:
        """Run a statement whose rows are there when they are `heard`, or another's are."""
        return self.wire.add(statement, bindings)

    def ask_ahead(self) -> None:
        """Have what follows be asked in the same message, once."""
        ahead, self.ahead = self.ahead, _nothing
        ahead()

    def forget_ahead(self) -> None:
        """Ask no more ahead."""
        self.ahead = _nothing

    def heard(self, answer: Answer) -> list[Values]:
        """Return the rows of a statement that was to be run later."""
        if not answer.is_there:
            self.wire.send()
        return answer.rows

    def rows(self, statement: str, bindings: Bindings | None = None) -> list[Values]:
        """Run a statement and return all its rows."""
        return self.heard(self.wire.add(statement, bindings))

    def row(self, statement: str, bindings: Bindings | None = None) -> Values | None:
        """Run a statement and return its first row."""
        return next(iter(self.rows(statement, bindings)), None)

    def rows_of_all(self, statement: str, bindings: Bindings | None = None) -> list[Values]:
        """Run the one statement that this transaction is."""
        answer = self.wire.add(statement, bindings)
        self.behind()
        self.wire.send()
        return answer.rows

    def many(self, statement: str, bindings: Collection[Values]) -> None:
        """Run a statement once for each of `bindings`."""
        for one in bindings:
            self.wire.add(statement, one)

    def class_of(self, number: int) -> tuple[str, Kind]:
        """Return a class's task and kind."""
        return self.names.class_of(number, self.link)

    def queue_name(self, number: int) -> str:
        """Return a queue's name."""
        return self.names.queue_name(number, self.link)

    def count(self, queue: int, state: int, jobs: int) -> None:
        """Note that so many jobs came to a state (or left it, if negative)."""
        self._counts.setdefault(queue, [0] * len(STATES))[state] += jobs

    def move(self, queue: int, source: int, target: int) -> None:
        """Note that a job went from one state to another."""
        self.count(queue, source, -1)
        self.count(queue, target, 1)

    def write_last(self) -> None:
        """Write what is written last: what gated jobs gave back, and the counters."""
        if self.gates is not None:
            self.gates.close()
        if self._record is not None:
            self._record.write_events(self)
        self.write_counts()

    def write_counts(self) -> None:
        """Append what was noted to the counters and rollups."""
        counted = [(queue, *jobs) for queue, jobs in self._counts.items() if any(jobs)]
        self._counts.clear()
        cells = None if self._record is None else self._record.take_cells()
        if cells is None:
            self.many(_COUNT, counted)
        elif len(counted) == 1 and cells["queues"] == [counted[0][0]]:
            minute, word, job_class, name, *sums = [cells[column][0] for column in CELL]
            self.execute(_PAST["add_one"], (*counted[0], minute, word, job_class, name, *sums))
        elif len(counted) == 1:
            [(queue, *jobs)] = counted
            counters = {f"c{code}": count for code, count in enumerate(jobs)}
            self.execute(_PAST["add_both"], cells | counters | {"queue": queue})
        else:
            self.many(_COUNT, counted)
            self.execute(_PAST["add"], cells)


def _nothing() -> None:
    """Ask nothing."""


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
