"""The verb `settle`, and what else judges claims by their tokens: `save`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from cicely.core.edge import Fate
from cicely.core.event import LONG_RUN_S, Event, kind_of_end
from cicely.core.failpoints import failpoint
from cicely.core.outcome import (
    MAX_FREE_PROBES,
    PROBED,
    Again,
    Failed,
    Outcome,
    Pause,
    Succeeded,
    Suspended,
    after_probe,
    decide,
    frees_of,
    keeps_of,
    reason_of,
)
from cicely.core.rollup import Word, run_us
from cicely.core.states import State
from cicely.engines.contract import RECEIPT_LEASES, Save, Verdict
from cicely.engines.postgres import edges, reservations, waiting, workflows
from cicely.engines.postgres.arrays import Array, bigints, byteas, floats, ints
from cicely.engines.postgres.cascade import Cascade, Moves
from cicely.engines.postgres.days import day_of
from cicely.engines.postgres.endings import Row, rows_of
from cicely.engines.postgres.gates import Hold, gates_of
from cicely.engines.postgres.graph import HOLDS, LABEL, NODE, OUT, WATCHED, End, Nodes
from cicely.engines.postgres.intents import Kind, Work
from cicely.engines.postgres.member import session_of
from cicely.engines.postgres.releasing import Behind, follow_successes
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.transaction import (
    FENCE_MASK,
    REQUEST_BYTES,
    RUNNING,
    SUCCEEDED,
    Transaction,
    number_in,
    token_of,
)
from cicely.engines.postgres.wire import Values

_SQL: Final = statements("settle")
_HELD: Final = _SQL["held"]
_HELD_GATED: Final = _SQL["held_gated"]
_SUCCEED: Final = _SQL["succeed"]
_COLUMNS: Final[tuple[tuple[str, Callable[[Any], Array]], ...]] = (
    ("ns", bigints),
    ("delete_ats", floats),
    ("started_ats", floats),
    ("sessions", ints),
    ("requests", byteas),
    ("fences", ints),
    ("attempts", ints),
    ("results", byteas),
    ("days", ints),
)
_SAVE: Final = statements("save")
_STEER: Final = statements("steer")
_RESERVE: Final = statements("reserve")

#: Instants are floats: who ran about long enough is looked at.
_TICK_S: Final = 0.001

#: A session that is gone leaves its receipts for ten of these.
DEFAULT_LEASE_S: Final = 30.0


class Done(NamedTuple):
    """A verdict per outcome; whether others follow on these jobs, and these only became ready."""

    verdicts: tuple[Verdict, ...]
    is_followed: bool
    is_plain: bool


def settle(
    txn: Transaction, outcomes: Sequence[Outcome], *, beside: Callable[[], object] | None = None
) -> Done:
    """Record how attempts ended.

    `beside` asks something together with the claims' rows; else what follows on them is asked there.
    """
    if not outcomes:
        return Done((), is_followed=False, is_plain=True)
    settling = _Settling(txn, outcomes, beside)
    verdicts = tuple([settling.verdict(outcome) for outcome in outcomes])
    settling.write()
    txn.is_stirred = True
    return Done(verdicts, settling.is_followed, settling.is_plain and txn.gates is None)


class _Settling:
    """One settle: the claims that its outcomes name, read at once."""

    def __init__(
        self, txn: Transaction, outcomes: Sequence[Outcome], beside: Callable[[], object] | None
    ) -> None:
        self._txn = txn
        self.is_followed = False
        self.is_plain = True
        self._behind: Behind | None = None
        self._endings = Moves(txn)
        self._recorded: dict[bytes, str] = {}
        self._successes: dict[int, int] = {}
        self._plain: list[Values] = []
        self._followed: list[End] = []
        #: Of those that succeeded, who gives something back; and what, where that was read already.
        self._holding: dict[int, Outcome] = {}
        self._holds: list[tuple[Hold, Outcome]] = []
        #: How many succeeded, by queue, class and when they were claimed.
        self._ran: dict[tuple[int, int, float], int] = {}
        self._named = sorted({number_in(outcome.token) for outcome in outcomes})
        self._read(beside, is_first=True)
        keeping = {number_in(one.token) for one in outcomes if isinstance(one, Succeeded) and one.keeps}
        if keeping:
            # Before jobs of these workflows become ready.
            reservations.own(txn, sorted(keeping))

    def _read(self, beside: Callable[[], object] | None = None, *, is_first: bool = False) -> None:
        """Read the claims, which are locked from then on."""
        statement = _HELD_GATED if self._txn.names.is_flowing else _HELD
        answer = self._txn.later(statement, {"ns": bigints(self._named)})
        if beside is not None:
            beside()
        elif is_first:
            self._behind = Behind(self._txn, self._named)
        rows = self._txn.heard(answer)
        self._held: dict[bytes, Values] = {token_of(row[1], row[0], row[2]): row for row in rows}
        self._seen = self._txn.spread

    def verdict(self, outcome: Outcome) -> Verdict:
        """Record one outcome and return what became of it."""
        token = outcome.token
        reason = reason_of(outcome)
        if self._txn.spread != self._seen:
            self._read()
        held = None if token in self._recorded else self._held.get(token)
        if held is None:
            recorded = self._recorded_reason(token)
            return Verdict.ALREADY if recorded == reason else Verdict.STALE
        self._recorded[token] = reason
        if isinstance(outcome, Succeeded) and not (held[5] or held[10] or outcome.keeps or outcome.frees):
            self._succeed(outcome, held)
        else:
            self.is_plain, self._behind = False, None
            # In their order: what follows from the ends so far may have changed this job.
            self._write_successes()
            self._settle(outcome, held[0])
        return Verdict.ACCEPTED

    def _recorded_reason(self, token: bytes) -> str | None:
        """Return the reason under which this token's attempt was settled before."""
        if token in self._recorded:
            return self._recorded[token]
        n = number_in(token)
        if n < 0:
            return None
        row = self._txn.row(_SQL["recorded"], {"token": token})
        if row is None:
            low = int.from_bytes(token[REQUEST_BYTES:], "big") & FENCE_MASK
            end = {"n": n, "request": token[:REQUEST_BYTES], "fence": low}
            row = self._txn.row(_SQL["recorded_end"], end)
        return row[0] if row else None

    def _succeed(self, outcome: Succeeded, held: Values) -> None:
        (n, request, fence, session, claimed_at, _, job_id, queue, keep_s, attempt, _, traits, job_class,
         *took) = held  # fmt: skip
        if traits & HOLDS:
            self._holding[n] = outcome
            if took:
                lane, flow, charged = took
                self._holds.append((Hold(n, lane, flow, charged, claimed_at), outcome))
        # A workflow is deleted as a whole.
        delete_at = math.inf if traits & LABEL else self._txn.now + keep_s
        if traits & OUT:
            self._followed.append(End(n, Fate.SUCCESS, job_id))
        self._plain.append(
            (
                n, delete_at, claimed_at, session, request, fence, attempt, outcome.result or None,
                day_of(delete_at, traits),
            )
        )  # fmt: skip
        self._successes[queue] = self._successes.get(queue, 0) + 1
        ran = (queue, job_class, claimed_at)
        self._ran[ran] = self._ran.get(ran, 0) + 1
        if traits & WATCHED or self._txn.now - claimed_at >= LONG_RUN_S - _TICK_S:
            self._tell_success(held)
        self._txn.ended.append(job_id)

    def _tell_success(self, held: Values) -> None:
        n, _, fence, session, claimed_at, _, job_id, queue, _, attempt, _, traits, job_class, *_ = held
        run_s = run_us(claimed_at, self._txn.now) / 1e6
        kind = kind_of_end(State.SUCCEEDED, run_s=run_s, watched=bool(traits & WATCHED), cause="")
        if kind is None:
            return
        txn = self._txn
        event = Event(
            kind=kind,
            at=txn.now,
            job_id=job_id,
            task=txn.class_of(job_class)[0],
            queue=txn.queue_name(queue),
            attempt=attempt,
            fence=fence,
            run_s=run_s,
        )
        txn.record.tell_of(event, n, session, has_label=bool(traits & LABEL))

    def _settle(self, outcome: Outcome, n: int) -> None:
        [row] = rows_of(self._txn, (n,))
        self._endings.outcomes[n] = outcome
        if isinstance(outcome, Failed) and outcome.elsewhere:
            self._endings.shuns[n] = self._worker_of(row.session)
        self._heed_reservations(outcome, row)
        probe = self._after_probe(outcome, row)
        step = probe or decide(outcome, row.tallies, cancelling=bool(row.cancelling), why=row.reason)
        if isinstance(step, Again | Pause):
            self._keep_receipt(outcome, row.session)
        if isinstance(step, Pause):
            self._endings.write()
            self._txn.record.count(Word.SUSPENDED, row.queue, row.job_class, started_at=row.started_at)
            if row.run_traits & HOLDS:
                gates_of(self._txn).note_ends([n], {n: outcome})
            suspend(self._txn, row, step.suspended)
            return
        word = reason_of(outcome) if probe is None else PROBED
        self._endings.carry_out(row, step, word, outcome.token[:REQUEST_BYTES])

    def _after_probe(self, outcome: Outcome, row: Row) -> Again | None:
        """Return what becomes of a probe that costs its job nothing; None of anything else."""
        if not isinstance(outcome, Failed) or not outcome.blames or row.cancelling:
            return None
        if not row.run_traits & HOLDS or not gates_of(self._txn).was_probe(row.n, outcome):
            return None
        where = {"n": row.n, "limit": MAX_FREE_PROBES}
        last = [word for (word,) in self._txn.rows(_SQL["last_attempts"], where)]
        return after_probe(outcome, row.tallies, last=last)

    def _heed_reservations(self, outcome: Outcome, row: Row) -> None:
        """End what an outcome frees, then keep what its job leaves to its workflow."""
        frees, keeps = frees_of(outcome), keeps_of(outcome, cancelling=bool(row.cancelling))
        if not frees and not keeps:
            return
        # Those that are ready again by now found what was reserved until now.
        self._endings.write()
        labelled = self._txn.row(_RESERVE["workflow"], {"n": row.n})
        if labelled is None:
            return
        [workflow] = labelled
        if frees:
            reservations.free(self._txn, workflow, frees)
        holder = self._txn.row(_STEER["worker"], (row.session,)) if keeps else None
        if holder is None:
            return
        held = reservations.Held(row.n, row.id, workflow, session_of(*holder).offers)
        if reservations.keep(self._txn, held, keeps):
            Cascade(self._txn).run([Work(Kind.BIND, row.n, workflow)])

    def _worker_of(self, session: int | None) -> str:
        holder = self._txn.row(_STEER["worker"], (session,))
        return "" if holder is None else session_of(*holder).worker

    def _keep_receipt(self, outcome: Outcome, session: int | None) -> None:
        lease: Any = self._txn.row(_SQL["lease"], (session,)) or (DEFAULT_LEASE_S,)
        until_at = self._txn.now + RECEIPT_LEASES * lease[0]
        self._txn.execute(_SQL["receipt"], (outcome.token, reason_of(outcome), until_at))

    def write(self) -> None:
        """Write all of it."""
        self._endings.write()
        self._write_successes()

    def _write_successes(self) -> None:
        if not self._plain:
            return
        self._endings.note_ends()
        if self._holds:
            gates_of(self._txn).note_holds(self._holds)
        elif self._holding:
            gates_of(self._txn).note_ends(list(self._holding), self._holding)
        self._holding, self._holds = {}, []
        parts = zip(_COLUMNS, zip(*self._plain, strict=True), strict=True)
        columns = {name: packed(part) for (name, packed), part in parts}
        self._txn.execute(_SUCCEED, {**columns, "now": self._txn.now})
        for (queue, job_class, claimed_at), count in self._ran.items():
            self._txn.record.count(Word.SUCCEEDED, queue, job_class, started_at=claimed_at, count=count)
        self._ran = {}
        for queue, jobs in self._successes.items():
            self._txn.count(queue, RUNNING, -jobs)
            self._txn.count(queue, SUCCEEDED, jobs)
        followed, self._followed = self._followed, []
        self._plain, self._successes = [], {}
        if followed:
            self.is_followed = True
            failpoint("postgres.settle.before_release")
            behind, self._behind = self._behind, None
            self.is_plain = follow_successes(self._txn, followed, behind) and self.is_plain


def suspend(txn: Transaction, row: Row, outcome: Suspended) -> None:
    """Let a job wait, after what it comes after from now on."""
    waiting.pause(txn, row, outcome)
    if outcome.publishes:
        workflows.publish(txn, outcome.publishes)
    if outcome.edges:
        ends = edges.Ends(txn, outcome.edges, {})
        edges.add(txn, outcome.edges, ends, {})
    if outcome.edges or row.traits & NODE:
        nodes = Nodes(txn)
        nodes.lock([row.n])
        node = nodes.get(row.n)
        nodes.write()
        if node is None or node.broken or not node.is_free:
            Cascade(txn).run([Work(Kind.JUDGE, row.n)])
            return
    waiting.wait(txn, row, outcome)


def save(txn: Transaction, saves: Sequence[Save]) -> list[bool]:
    """Keep what running attempts leave."""
    named = sorted({number_in(one.token) for one in saves})
    held = {token_of(request, n, fence) for n, request, fence in txn.rows(_SAVE["holds"], {"ns": named})}
    for one in saves:
        if one.token in held:
            _save_one(txn, one)
    return [one.token in held for one in saves]


def _save_one(txn: Transaction, one: Save) -> None:
    n = number_in(one.token)
    if one.progress is not None or one.checkpoint is not None:
        txn.execute(_SAVE["live"], (n, one.progress, one.checkpoint))
    if one.visibility_s is not None:
        txn.execute(_SAVE["deadline"], (txn.now + one.visibility_s, n))
    waiting.record_steps(txn, n, one.steps)
