"""Labels, held jobs, publication, and the retention of whole workflows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from cicely.core.edge import INLINE_PARENTS, Edge, ParentEnd
from cicely.core.job import DAY_S, Claim, Enqueued, NewJob
from cicely.core.outcome import CANCELLED, Finish
from cicely.core.states import State
from cicely.core.traits import role_of
from cicely.engines.postgres import edges as edging
from cicely.engines.postgres import enqueueing
from cicely.engines.postgres.cascade import Cascade
from cicely.engines.postgres.drawing import bind_later, draw
from cicely.engines.postgres.endings import Endings, locked_rows
from cicely.engines.postgres.gates import stood
from cicely.engines.postgres.graph import DRAWS, GATED, LABEL, NODE, OUT, STEPS, WATCHED
from cicely.engines.postgres.intents import Kind, Work
from cicely.engines.postgres.standing import is_gated, may_draw, streams_of
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.sweeping import delete
from cicely.engines.postgres.transaction import Retry, Transaction, state_of
from cicely.engines.postgres.wire import Values

_SQL: Final = statements("workflow")
_STREAM: Final = statements("stream")
_GRAPH: Final = statements("graph")

#: How often it is looked whether all jobs of a workflow are past their retention.
_LOOK_S: Final = 3_000.0


# --- storing ----------------------------------------------------------------------------------
def is_graph(jobs: Sequence[NewJob], edges: Sequence[Edge]) -> bool:
    """Return whether a call stores more than plain jobs."""
    return bool(edges) or any(job.held or job.workflow or job.group for job in jobs)


def enqueue_any(txn: Transaction, jobs: Sequence[NewJob], edges: Sequence[Edge]) -> list[Enqueued]:
    """Store jobs, plain or not."""
    return enqueue(txn, jobs, edges) if is_graph(jobs, edges) else enqueueing.enqueue(txn, jobs)


def enqueue(txn: Transaction, jobs: Sequence[NewJob], edges: Sequence[Edge]) -> list[Enqueued]:
    """Store jobs, their labels and edges."""
    published = _enter(txn, {job.workflow for job in jobs if job.workflow})
    batch = enqueueing.Batch(txn, jobs) if jobs else None
    told = [batch.answer(job) for job in jobs] if batch else []
    stands_for = {job.id: answer.id for job, answer in zip(jobs, told, strict=True)}
    meant = [_meant(edge, stands_for) for edge in edges]
    behind = {edge.child for edge in meant}
    chosen = batch.chosen if batch else []
    held = {job.id for job in chosen if job.held and not published.get(job.workflow, False)}
    # Before anything is stored: the places of jobs that exist are locked in one go.
    ends = edging.Ends(txn, meant, dict.fromkeys((job.id for job in chosen), 0))
    ends.refuse_unknown(meant)
    if batch is not None:
        batch.check()
    fresh = _store(txn, chosen, behind, held, {edge.parent for edge in meant})
    ends.fresh = fresh
    waiting = {job.id: fresh[job.id] for job in chosen if job.id in behind or job.id in held}
    edging.add(txn, meant, ends, waiting)
    edging.judge_new(txn, _decided(txn, waiting))
    txn.is_stirred = True
    return told


def _meant(edge: Edge, stands_for: dict[str, str]) -> Edge:
    parent, child = (stands_for.get(end, end) for end in (edge.parent, edge.child))
    if (parent, child) == (edge.parent, edge.child):
        return edge
    return Edge(parent, child, edge.rule, edge.role, edge.join, edge.cancels_siblings)


def _store(
    txn: Transaction, jobs: Sequence[NewJob], behind: set[str], held: set[str], before: set[str]
) -> dict[str, int]:
    if not jobs:
        return {}
    columns: dict[str, Any] = enqueueing.columns(jobs, txn.names, txn.now)
    waits = [job.id in behind or job.id in held for job in jobs]
    columns["waits"] = waits
    columns["stream"], columns["flow"] = streams_of(jobs, txn.names)
    columns["is_held"] = [job.id in held for job in jobs]
    columns["workflow"] = [job.workflow for job in jobs]
    columns["grp"] = [job.group for job in jobs]
    columns["traits"] = [
        (OUT if job.id in before else 0)
        | (NODE if is_waiting or (job.id in before and _asks_for_a_start(job)) else 0)
        | (LABEL if job.workflow or job.group else 0)
        | (GATED if is_gated(job) else 0)
        | (WATCHED if job.watched else 0)
        | (DRAWS if may_draw(job) else 0)
        for job, is_waiting in zip(jobs, waits, strict=True)
    ]
    fresh: dict[str, int] = dict(txn.rows(_SQL["add"], columns))
    if any(columns["stream"]):
        for (number,) in txn.rows(_STREAM["missing"], {"streams": columns["stream"]}):
            txn.names.streams.forget(number)
    if len(fresh) < len(jobs):
        raise Retry
    _draw(txn, [(fresh[job.id], job) for job, is_waiting in zip(jobs, waits, strict=True) if not is_waiting])
    return fresh


def _draw(txn: Transaction, jobs: Sequence[tuple[int, NewJob]]) -> None:
    """Have new jobs draw what their workflows have reserved, where they are ready."""
    drawing = [(n, job.workflow) for n, job in jobs if may_draw(job)]
    if drawing and txn.is_callers:
        # It may last for minutes: those who reserve something do not wait for it.
        bind_later(txn, drawing)
    elif drawing:
        stood(txn, draw(txn, [n for n, _ in drawing]))


def _asks_for_a_start(job: NewJob) -> bool:
    """Return whether it matters to a job when it is let go, should it ever wait."""
    return job.delay_s > 0 or any(at is not None for at in (job.due_at, job.expires_s, job.expires_at))


def _decided(txn: Transaction, waiting: dict[str, int]) -> list[int]:
    """Return which of the new jobs may already go on, or end, in the order in which they were given."""
    if not waiting:
        return []
    found = {n for (n,) in txn.rows(_SQL["decided"], {"ns": list(waiting.values())})}
    return [n for n in waiting.values() if n in found]


def _enter(txn: Transaction, names: set[str]) -> dict[str, bool]:
    """Share the rows of workflows, so that they are neither published nor deleted meanwhile."""
    if not names:
        return {}
    txn.execute(_SQL["found"], {"names": sorted(names), "now": txn.now, "look_s": _LOOK_S})
    published: dict[str, bool] = dict(txn.rows(_SQL["enter"], {"names": sorted(names)}))
    if len(published) < len(names):
        raise Retry
    return published


def publish(txn: Transaction, name: str) -> None:
    """Let the held jobs of a workflow go, those of later calls as well."""
    txn.execute(_SQL["found"], {"names": [name], "now": txn.now, "look_s": _LOOK_S})
    row = txn.row(_SQL["lock"], {"name": name})
    if row is None:
        raise Retry
    if not row[0]:
        txn.execute(_SQL["publish"], {"name": name})
        Cascade(txn).run([Work(Kind.PUBLISH, 0, name)])
    txn.is_stirred = True


# --- claims -----------------------------------------------------------------------------------
def with_extras(txn: Transaction, flagged: dict[str, tuple[int, int]], claims: list[Claim]) -> list[Claim]:
    """Return claims with what only jobs of workflows have; `flagged` maps ids to number and traits."""
    extras = Extras(txn, flagged)
    txn.wire.send()
    return extras.added_to(claims)


class Extras:
    """What only jobs of workflows have, asked with what is asked next."""

    __slots__ = ("_answer", "_flagged")

    def __init__(self, txn: Transaction, flagged: dict[str, tuple[int, int]]) -> None:
        self._flagged = flagged
        wanted = {
            "ns": [n for n, _ in flagged.values()],
            "has_steps": [bool(traits & STEPS) for _, traits in flagged.values()],
            "most": INLINE_PARENTS,
        }
        self._answer = txn.later(_SQL["extras"], wanted)

    def added_to(self, claims: list[Claim]) -> list[Claim]:
        """Return claims with it, once the answer is there."""
        flagged = self._flagged
        extras: dict[int, Values] = {}
        parents: dict[int, list[ParentEnd]] = {}
        for n, workflow, group, joins, steps, edge, *parent in self._answer.rows:
            extras[n] = (workflow, group, joins, steps)
            if edge is not None:
                parents.setdefault(n, []).append(_parent_end(parent))
        return [
            _with_extra(claim, extras[flagged[claim.job_id][0]], parents.get(flagged[claim.job_id][0], ()))
            if claim.job_id in flagged
            else claim
            for claim in claims
        ]


def _with_extra(claim: Claim, extra: Sequence[Any], parents: Sequence[ParentEnd]) -> Claim:
    workflow, group, joins, steps = extra
    return msgspec.structs.replace(
        claim, workflow=workflow, group=group, joins=joins, steps=steps, parents=tuple(parents)
    )


def parents(txn: Transaction, job_id: str, after: int, limit: int) -> list[ParentEnd]:
    """Return how the parents of a job stand, in the order of its edges."""
    numbers = [n for _, n in txn.rows(_GRAPH["known"], {"ids": [job_id]})]
    if not numbers:
        return []
    page = {"ns": numbers, "skip": after, "limit": limit}
    return [_parent_end(row[1:]) for row in txn.rows(_SQL["parents"], page)]


def _parent_end(row: Sequence[Any]) -> ParentEnd:
    traits, parent, is_gone, end, runs, waits, is_due_later, result, cause, error = row
    role = role_of(traits)
    if is_gone:
        return ParentEnd(parent, role, State.SUCCEEDED, is_gone=True)
    if end is not None:
        state = state_of(end)
    elif runs:
        state = State.RUNNING
    elif waits:
        state = State.WAITING
    else:
        state = State.SCHEDULED if is_due_later else State.READY
    return ParentEnd(parent, role, state, result=result or b"", error=error or b"", cause=cause)


# --- retention --------------------------------------------------------------------------------
def keep_house(txn: Transaction, batch: int) -> tuple[int, bool]:
    """Look after the workflow whose turn has come; return how many jobs went, and whether to go on."""
    row = txn.row(_SQL["due"], {"now": txn.now})
    if row is None:
        return 0, False
    name, published, after, is_over = row
    is_abandoned = not published and _is_abandoned(txn, name)
    page = {"name": name, "after": after if not is_over else 0, "limit": batch}
    members = txn.rows(_SQL["members"], page)
    if is_over or is_abandoned:
        return _delete_page(txn, name, members, is_abandoned=is_abandoned)
    until = _stays_until(txn, members)
    if until is not None:
        _move_on(txn, name, check_at=until)
    elif len(members) == batch:
        _move_on(txn, name, check_at=txn.now, after=members[-1][0])
    else:
        _move_on(txn, name, check_at=txn.now, is_over=True)
    return 0, True


def _is_abandoned(txn: Transaction, name: str) -> bool:
    return txn.row(_SQL["abandoned"], {"name": name, "before": txn.now - DAY_S}) is not None


def _stays_until(txn: Transaction, members: Sequence[Values]) -> float | None:
    """Return when to look again where one of the jobs is to stay, None where none is."""
    if any(not has_ended for _, has_ended, _ in members):
        return txn.now + _LOOK_S
    latest = max((until for _, _, until in members), default=txn.now)
    if latest > txn.now:
        return float(latest)
    ns = [n for n, _, _ in members]
    if ns and txn.rows(_GRAPH["has_live_child"], {"ns": ns}):
        return txn.now + _LOOK_S
    return None


def _delete_page(
    txn: Transaction, name: str, members: Sequence[Values], *, is_abandoned: bool
) -> tuple[int, bool]:
    """Delete some jobs of a workflow; all of them are past their retention, unless one has come back."""
    if not members:
        txn.execute(_SQL["remove"], {"name": name})
        return 0, True
    rows = locked_rows(txn, [n for n, _, _ in members])
    live = [row for row in rows if row.end is None]
    if live and not is_abandoned:
        _move_on(txn, name, check_at=txn.now + _LOOK_S)
        return 0, True
    endings = Endings(txn)
    endings.is_silent = True
    for row in live:
        endings.finish(row, Finish(State.CANCELLED, row.tallies, CANCELLED))
    endings.write()
    delete(txn, [row.n for row in rows])
    return len(rows), True


def _move_on(txn: Transaction, name: str, *, check_at: float, after: int = 0, is_over: bool = False) -> None:
    where = {"name": name, "check_at": check_at, "after": after, "is_over": is_over}
    txn.execute(_SQL["move_on"], where)
