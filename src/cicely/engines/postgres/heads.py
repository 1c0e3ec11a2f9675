"""Ready jobs as claims read them: in order, in chunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from cicely.core.job import Claim, Kind, Tallies
from cicely.core.resources import Amounts
from cicely.engines.postgres.limiting import read_flow
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.transaction import Transaction, token_of
from cicely.engines.postgres.units import units_in
from cicely.engines.postgres.wire import Values

_HEADS: Final = statements("claim")["heads"]
_EXTRAS: Final = statements("valve")["extras"]

_LARGEST_CHUNK: Final = 256
_FRESH: Final = Tallies()


def with_flows(txn: Transaction, ns: list[int], claims: list[Claim]) -> list[Claim]:
    """Return claims, of which those with these numbers are gated, with what they took."""
    flows = {job_id: (flow, units) for job_id, flow, units in txn.rows(_EXTRAS, {"ns": ns})}
    return [
        with_flow(claim, flows[claim.job_id][0], units_in(flows[claim.job_id][1]))
        if claim.job_id in flows
        else claim
        for claim in claims
    ]


def with_flow(plain: Claim, flow: bytes | None, units: Amounts | None) -> Claim:
    """Return a claim with the limits and units that it took."""
    keys = tuple(use.key for use in read_flow(flow)[0].uses)
    return msgspec.structs.replace(plain, units=units or {}, keys=keys) if keys or units else plain


def claim_of(values: Sequence[Any], request: bytes, *, task: str, kind: Kind, queue: str) -> Claim:
    """Make a claim of a row of `heads`."""
    _, n, job_id, created_at, _, errors, crashes, lost, fence, options, body, checkpoint, *_ = values
    tallies = Tallies(errors, crashes, lost) if errors or crashes or lost else _FRESH
    plain = Claim(
        token_of(request, n, fence + 1),
        job_id,
        task,
        kind,
        queue,
        fence + 1,
        body,
        options,
        tallies,
        checkpoint,
        created_at,
    )
    return msgspec.structs.replace(plain, reason=values[15]) if values[15] else plain


class Chunk(NamedTuple):
    """The first rows of `heads`, of so many as were asked for."""

    rows: list[Values]
    most: int


class Stream:
    """The plain ready jobs of one class, in order, locked in chunks when they are first looked at."""

    __slots__ = (
        "_at",
        "_chunk",
        "_is_spent",
        "_read_to",
        "_txn",
        "_wanted",
        "first",
        "key",
        "kind",
        "lane",
        "task",
    )

    def __init__(self, txn: Transaction, pair: Values, *, wanted: int, seen: Chunk | None = None) -> None:
        self._txn = txn
        self.key = pair[:2]
        #: (rank, n) of its first job, which another claim may be taking.
        self.first = pair[2:]
        #: The number of the lane of jobs without one, where it counts.
        self.lane = 0
        self.task, self.kind = txn.class_of(pair[1])
        # Not from the very first entry: the remains of jobs that are gone may stand before it.
        self._read_to: Values = (pair[2], pair[3] - 1)
        self._wanted = wanted
        self._chunk: list[Values] = []
        self._at = 0
        self._is_spent = False
        if seen is not None:
            self._note(*seen)

    def head(self) -> Values | None:
        """Return the first job that was not taken yet."""
        if self._at == len(self._chunk):
            self._read()
        return self._chunk[self._at] if self._chunk else None

    def take(self) -> None:
        """Go on to the next one."""
        self._at += 1

    def _read(self) -> None:
        self._chunk, self._at = [], 0
        if self._is_spent:
            return
        size = min(max(self._wanted, 1), _LARGEST_CHUNK)
        queue, job_class = self.key
        rank, n = self._read_to
        bindings = {"queue": queue, "class": job_class, "rank": rank, "n": n, "limit": size}
        self._note(self._txn.rows(_HEADS, bindings), size)

    def _note(self, chunk: list[Values], size: int) -> None:
        self._chunk = chunk
        self._wanted = 2 * size
        self._is_spent = len(chunk) < size
        if self._chunk:
            self._read_to = self._chunk[-1][:2]
