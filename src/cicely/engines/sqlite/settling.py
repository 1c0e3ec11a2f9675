"""The verb `settle`, and what else judges claims by their tokens: `save`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from cicely.core.event import LONG_RUN_S, kind_of_end
from cicely.core.failpoints import failpoint
from cicely.core.outcome import (
    MAX_FREE_PROBES,
    PROBED,
    Again,
    Deferred,
    Failed,
    Finish,
    Outcome,
    Pause,
    Succeeded,
    Suspended,
    after_probe,
    decide,
    reason_of,
)
from cicely.core.rollup import run_us
from cicely.core.states import State
from cicely.engines.contract import RECEIPT_LEASES, Save, Verdict
from cicely.engines.sqlite.blobs import drop_replaced
from cicely.engines.sqlite.cascade import begin, conclude
from cicely.engines.sqlite.deciding import Releases
from cicely.engines.sqlite.endings import Endings, Row, rows_of
from cicely.engines.sqlite.gates import Hold, gates_of, is_plain, is_unused, spent_in
from cicely.engines.sqlite.member import session_of
from cicely.engines.sqlite.reserving import heed
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.suspending import record_steps, suspend
from cicely.engines.sqlite.telling import tell_of, went_on
from cicely.engines.sqlite.transaction import (
    CHILDREN,
    FENCE_MASK,
    REQUEST_BYTES,
    WATCHED,
    WORKFLOW,
    Transaction,
    Values,
    is_token_of,
    number_in,
    numbers,
    token_of,
)
from cicely.engines.sqlite.undoing import DEFAULT_LEASE_S

_SQL: Final = statements("settle")
_HELD: Final = _SQL["held"]
_SAVE: Final = statements("save")
_STEER: Final = statements("steer")
_STREAM: Final = statements("stream")

#: A checkpoint that is not longer may be a reference to a blob.
_LONGEST_REFERENCE: Final = 256


def settle(txn: Transaction, outcomes: Sequence[Outcome]) -> tuple[Verdict, ...]:
    """Record how attempts ended; return a verdict per outcome."""
    if not outcomes:
        return ()
    settling = _Settling(txn, outcomes)
    verdicts = tuple([settling.verdict(outcome) for outcome in outcomes])
    settling.write()
    txn.is_stirred = True
    return verdicts


class _Settling:
    """One settle: the claims that its outcomes name, read at once."""

    def __init__(self, txn: Transaction, outcomes: Sequence[Outcome]) -> None:
        self._txn = txn
        self._endings = Endings(txn)
        self._agenda = begin(txn)
        self._recorded: dict[bytes, str] = {}
        #: Of claims that took nothing but limits and succeeded: what goes back, by flow and instant.
        self._ran: dict[tuple[bytes | None, float], list[int]] = {}
        #: Of those that are told, where they are not told one by one.
        self._long_before = txn.now - LONG_RUN_S
        named = numbers(number_in(outcome.token) for outcome in outcomes)
        self._held: dict[bytes, Values] = {
            token_of(row[1], row[0], row[2]): row for row in txn.execute(_HELD, (named,))
        }
        self._read_lanes()
        self._parents: list[int] = []
        self._releases = self._simple_releases(outcomes)

    def _read_lanes(self) -> None:
        names: dict[int, set[str]] = {}
        for held in self._held.values():
            if held[13]:
                names.setdefault(held[7], set()).add(held[14])
        for queue, lanes in names.items():
            gates_of(self._txn).lanes.read(queue, lanes)

    def _simple_releases(self, outcomes: Sequence[Outcome]) -> Releases | None:
        """Return what follows from these outcomes where that is a mere counting down, else None."""
        parents = [row[0] for row in self._held.values() if row[11] & CHILDREN]
        if not parents:
            return None
        for outcome in outcomes:
            held = self._held.get(outcome.token)
            is_plain = isinstance(outcome, Succeeded) and not (held and (held[5] or held[10]))
            if isinstance(outcome, Suspended) or (held and held[11] & CHILDREN and not is_plain):
                return None
        releases = Releases(self._txn, parents)
        return releases if releases.are_simple else None

    def verdict(self, outcome: Outcome) -> Verdict:
        """Record one outcome and return what became of it."""
        token = outcome.token
        reason = reason_of(outcome)
        held = self._held.pop(token, None)
        if held is None:
            recorded = self._recorded_reason(token)
            return Verdict.ALREADY if recorded == reason else Verdict.STALE
        self._recorded[token] = reason
        if held[11] & WORKFLOW:
            heed(self._agenda, outcome, held[0], held[6], held[3], cancelling=bool(held[5]))
        if held[13] is not None:
            self._give_back(outcome, held)
        has_children = held[11] & CHILDREN
        is_simple = not has_children or self._releases is not None
        if isinstance(outcome, Succeeded) and not held[5] and held[10] is None and is_simple:
            self._succeed(outcome, held)
            if has_children:
                self._parents.append(held[0])
        else:
            self._settle(outcome, held[0])
        return Verdict.ACCEPTED

    def _give_back(self, outcome: Outcome, held: Values) -> None:
        n, queue, claimed_at = held[0], held[7], held[4]
        _, charged, lane, flow = held[12:]
        if isinstance(outcome, Succeeded) and not outcome.spent and is_plain(flow):
            if charged:
                ran_s = self._txn.now - claimed_at
                gates_of(self._txn).lanes.correct(queue, lane, was_charged=charged, ran_s=ran_s)
            self._ran.setdefault((flow, claimed_at), []).append(n)
            return
        self._give_back_alike()
        hold = Hold(n, queue, lane, flow, charged, claimed_at)
        gates = gates_of(self._txn)
        gates.heed(hold, outcome)
        gates.give_back(hold, spent_in(outcome), unused=is_unused(outcome))

    def _give_back_alike(self) -> None:
        """Give back what the claims took of limits that were put together."""
        if self._ran:
            gates = gates_of(self._txn)
            for (flow, claimed_at), ns in self._ran.items():
                gates.give_back_alike(flow, claimed_at, ns)
            self._ran.clear()

    def _recorded_reason(self, token: bytes) -> str | None:
        """Return the reason under which this token's attempt was settled before."""
        if token in self._recorded:
            return self._recorded[token]
        n = number_in(token)
        if n < 0:
            return None
        row = self._txn.row(_SQL["recorded"], (token,))
        if row is None:
            low = int.from_bytes(token[REQUEST_BYTES:], "big") & FENCE_MASK
            row = self._txn.row(_SQL["recorded_end"], (n, token[:REQUEST_BYTES], low))
        return row[0] if row else None

    def _succeed(self, outcome: Succeeded, held: Values) -> None:
        n, request, fence, session, claimed_at, _, job_id, queue, keep_s, attempt, _, flags, kind, *_ = held
        if claimed_at <= self._long_before or flags & WATCHED:
            self._tell_of(held)
        kept_s = None if flags & WORKFLOW else keep_s
        result = outcome.result or None
        alike = (kind, queue, claimed_at, session, request, fence, attempt, kept_s, result)
        self._endings.succeed(n, job_id, alike)

    def _tell_of(self, held: Values) -> None:
        """Tell of a success that took long, or of a job that is watched."""
        run_s = run_us(held[4], self._txn.now) / 1e6
        watched = bool(held[11] & WATCHED)
        kind = kind_of_end(State.SUCCEEDED, run_s=run_s, watched=watched, cause="")
        if kind is not None:
            [row] = rows_of(self._txn, (held[0],))
            tell_of(self._txn, row, kind, reason="", run_s=run_s)

    def _settle(self, outcome: Outcome, n: int) -> None:
        [row] = rows_of(self._txn, (n,))
        if isinstance(outcome, Deferred) and row.charged is None:
            self._give_back_alike()
            gates_of(self._txn).heed(row.hold, outcome)
        row.charged = None
        if isinstance(outcome, Failed) and outcome.elsewhere:
            self._shun(row)
        probe = self._after_probe(outcome, row)
        step = probe or decide(outcome, row.tallies, cancelling=bool(row.cancelling), why=row.reason)
        if not isinstance(step, Finish):
            self._keep_receipt(outcome, row.session)
        if isinstance(step, Pause):
            went_on(self._txn, row, step, "")
            self._conclude()
            suspend(self._agenda, row, step.suspended)
            return
        word = reason_of(outcome) if probe is None else PROBED
        self._endings.carry_out(row, step, word, outcome.token[:REQUEST_BYTES])
        if row.flags & CHILDREN:
            self._conclude()

    def _after_probe(self, outcome: Outcome, row: Row) -> Again | None:
        """Return what becomes of a probe that costs its job nothing; None of anything else."""
        if not isinstance(outcome, Failed) or not outcome.blames or row.cancelling:
            return None
        if not gates_of(self._txn).was_probe(row.hold, outcome):
            return None
        last = [word for (word,) in self._txn.rows(_SQL["last_attempts"], (row.n, MAX_FREE_PROBES))]
        return after_probe(outcome, row.tallies, last=last)

    def _shun(self, row: Row) -> None:
        """Have a job avoid the worker that failed it."""
        holder = self._txn.row(_STEER["worker"], (row.session,))
        if holder is not None:
            row.shuns = session_of(*holder).worker
            self._txn.execute(_STREAM["shun"], (row.n, row.shuns))

    def _keep_receipt(self, outcome: Outcome, session: int | None) -> None:
        lease: Any = self._txn.row(_SQL["lease"], (session,)) or (DEFAULT_LEASE_S,)
        until_at = self._txn.now + RECEIPT_LEASES * lease[0]
        self._txn.execute(_SQL["receipt"], (outcome.token, reason_of(outcome), until_at))

    def write(self) -> None:
        """Write all of it."""
        self._conclude()
        if self._releases is not None:
            failpoint("sqlite.end.before_release")
            self._releases.carry_out(self._parents)

    def _conclude(self) -> None:
        """Write what is gathered, and what follows from it, before anything else is judged."""
        self._give_back_alike()
        endings, self._endings = self._endings, Endings(self._txn)
        conclude(self._agenda, endings)


def save(txn: Transaction, saves: Sequence[Save]) -> list[bool]:
    """Keep what running attempts leave."""
    return [_save_one(txn, one) for one in saves]


def _save_one(txn: Transaction, one: Save) -> bool:
    n = number_in(one.token)
    held = txn.row(_SAVE["holds"], (n,))
    if held is None or not is_token_of(one.token, held[0], held[1]):
        return False
    if one.progress is not None:
        txn.execute(_SAVE["progress"], (n, one.progress))
    if one.checkpoint is not None:
        _drop_replaced_checkpoint(txn, n, one.checkpoint)
        txn.execute(_SAVE["checkpoint"], (n, one.checkpoint))
    if one.visibility_s is not None:
        txn.execute(_SAVE["deadline"], (n, txn.now + one.visibility_s))
    record_steps(txn, n, one.steps)
    return True


def _drop_replaced_checkpoint(txn: Transaction, n: int, checkpoint: bytes) -> None:
    replaced = txn.row(_SAVE["replaced"], (n, _LONGEST_REFERENCE))
    if replaced is not None:
        drop_replaced(txn, replaced[1], replaced=replaced[0], kept=(checkpoint, replaced[2] or b""))
