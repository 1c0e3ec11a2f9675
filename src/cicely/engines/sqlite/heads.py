"""Ready jobs as claims read them: in order, in chunks, also where some of them were damaged by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from cicely.core.job import Claim, Kind, Tallies
from cicely.core.resources import Amounts
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.transaction import Transaction, Values, token_of

_SQL: Final = statements("claim")
_HEADS: Final = _SQL["heads"]
_EARLIER: Final = _SQL["earlier"]

_LARGEST_CHUNK: Final = 256
_SMALLEST_CHUNK: Final = 4
FIRST_KEY: Final = (-(1 << 63), -1)
_FRESH: Final = Tallies()
_NOT_YET: Final = (0, 0, 0, None, "")
NO_UNITS: Final[Amounts] = {}

#: What stands in a row of `heads` beyond its rank, n, id and instants: the last claim's fence, flags; and of
#: gated jobs their flow and stream.
FENCE, FLAGS, FLOW, STREAM = 5, 8, 9, 10
#: How long the row of a job is that nothing holds back, and of one that something does.
PLAIN_WIDTH: Final = 9
GATED_WIDTH: Final = 11

#: What reading a row that was damaged by hand may raise.
UNREADABLE: Final = (UnicodeDecodeError, TypeError, ValueError, OverflowError)


def claim_of(
    txn: Transaction,
    row: Sequence[Any],
    request: bytes,
    *,
    task: str,
    kind: Kind,
    queue: str,
    units: Amounts = NO_UNITS,
    keys: tuple[str, ...] = (),
) -> Claim:
    """Make a claim of a row of `heads`; raises one of UNREADABLE where it was damaged."""
    n, job_id, created_at, fence, options, body = row[1], row[2], row[3], row[FENCE], row[6], row[7]
    token = token_of(request, n, fence + 1)
    if not fence and not keys and not units:
        return Claim(token, job_id, task, kind, queue, 1, body, options, _FRESH, None, created_at)
    errors, crashes, lost, checkpoint, reason = _earlier(txn, n) if fence else _NOT_YET
    return Claim(
        token,
        job_id,
        task,
        kind,
        queue,
        fence + 1,
        body,
        options,
        Tallies(errors, crashes, lost) if errors or crashes or lost else _FRESH,
        checkpoint,
        created_at,
        units=units,
        reason=reason,
        keys=keys,
    )


def _earlier(txn: Transaction, n: int) -> Values:
    """Return the tallies, the checkpoint and the last reason of a job that was claimed before."""
    return txn.row(_EARLIER, (n,)) or _NOT_YET


class Stream:
    """The ready jobs of one class that nothing holds back, in order, read in chunks."""

    __slots__ = ("_at", "_chunk", "_read_to", "_txn", "_wanted", "first", "key", "kind", "taken_to", "task")

    def __init__(self, txn: Transaction, place: Values, *, wanted: int) -> None:
        self._txn = txn
        #: Its queue and class.
        self.key = place[:2]
        #: (rank, n) of its first job.
        self.first = place[2:]
        self.task, self.kind = txn.names.class_of(place[1])
        self.taken_to: Values | None = None
        self._read_to: Values = FIRST_KEY
        self._wanted = wanted
        self._chunk: list[Values] = []
        self._at = 0

    def head(self) -> Values | None:
        """Return the first job that was not taken yet."""
        if self._at == len(self._chunk):
            self._read()
        return self._chunk[self._at] if self._chunk else None

    def take(self) -> None:
        """Go on to the next one."""
        self.taken_to = self._chunk[self._at][:2]
        self._at += 1

    def _read(self) -> None:
        size = min(max(self._wanted, _SMALLEST_CHUNK), _LARGEST_CHUNK)
        try:
            chunk = self._txn.rows(_HEADS, (*self.key, *self._read_to, size))
        except UNREADABLE:
            chunk = list(self._sifted(size))
        self._chunk = chunk
        self._at = 0
        self._wanted = 2 * size
        if chunk:
            self._read_to = chunk[-1][:2]

    def _sifted(self, size: int) -> Iterator[Values]:
        """Read the jobs one by one; in place of an unreadable one, its keys alone."""
        for key in self._txn.rows(_SQL["head_keys"], (*self.key, *self._read_to, size)):
            try:
                row = self._txn.row(_SQL["head"], key)
            except UNREADABLE:
                row = None
            yield row or (*key, *([None] * (PLAIN_WIDTH - len(key))))
