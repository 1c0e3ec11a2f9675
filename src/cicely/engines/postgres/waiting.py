"""Jobs that wait: letting them go, suspending one that ran, and the events and steps of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cicely.core.job import rank
from cicely.core.outcome import Await, Step, Suspended
from cicely.engines.contract import KEEP_EVENT_S
from cicely.engines.postgres.drawing import draw
from cicely.engines.postgres.endings import Row, locked_rows
from cicely.engines.postgres.gates import stood
from cicely.engines.postgres.graph import DRAWS, STEPS, flag
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.transaction import (
    READY,
    RUNNING,
    SCHEDULED,
    WAITING,
    Retry,
    Transaction,
)
from cicely.engines.postgres.wire import Values

_SQL: Final = statements("suspend")
_GRAPH: Final = statements("graph")
_SETTLE: Final = statements("settle")


def let_go(txn: Transaction, ns: Sequence[int]) -> bool:
    """Make jobs ready whose nodes wait no more, or scheduled where they are not due before they run.

    Return whether all of them are ready, and plain.
    """
    if not ns:
        return True
    at_once = set()
    drawing = []
    is_plain = True
    going = txn.later(_SQL["go_at_once"], {"ns": list(ns), "now": txn.now})
    txn.ask_ahead()
    for n, queue, stream, may_draw in txn.heard(going):
        at_once.add(n)
        if may_draw:
            drawing.append(n)
        txn.move(queue, WAITING, READY)
        if stream:
            is_plain = False
            stood(txn, (stream,))
    stood(txn, draw(txn, drawing))
    if len(at_once) < len(ns):
        is_plain = False
        _start(txn, [n for n in ns if n not in at_once])
    txn.is_stirred = True
    txn.work = None
    return is_plain


def _start(txn: Transaction, ns: Sequence[int]) -> None:
    """Let jobs go that asked for a delay or a deadline, which count from now, or whose wait had an end."""
    starts = [_Start(txn.now, values) for values in txn.rows(_SQL["starts"], {"ns": list(ns)})]
    txn.many(_SETTLE["undeferred"], [(one.awaited_until, one.n) for one in starts if one.awaited_until])
    txn.execute(
        _SQL["go"],
        {
            "ns": [one.n for one in starts],
            "ranks": [one.rank for one in starts],
            "due_ats": [one.due_at for one in starts],
            "expires_ats": [one.expires_at for one in starts],
        },
    )
    _stand(txn, [one for one in starts if one.due_at is None])
    later = [one for one in starts if one.due_at is not None]
    txn.many(_SETTLE["deferred"], [(one.due_at, one.n) for one in later])
    bounded = [(one.expires_at, one.n) for one in starts if one.expires_at is not None]
    txn.many(_SETTLE["expiring"], bounded)
    for one in later:
        txn.move(one.queue, WAITING, SCHEDULED)


def _stand(txn: Transaction, ready: Sequence[_Start]) -> None:
    if not ready:
        return
    txn.execute(
        _SQL["go_ready"],
        {
            "queues": [one.queue for one in ready],
            "streams": [one.stream for one in ready],
            "classes": [one.job_class for one in ready],
            "ranks": [one.rank for one in ready],
            "ns": [one.n for one in ready],
        },
    )
    stood(txn, (one.stream for one in ready))
    stood(txn, draw(txn, [one.n for one in ready if one.traits & DRAWS]))
    for one in ready:
        txn.move(one.queue, WAITING, READY)


class _Start:
    """When a job that waited runs: at once, unless it asked otherwise for its first run."""

    __slots__ = (
        "awaited_until",
        "due_at",
        "expires_at",
        "job_class",
        "n",
        "queue",
        "rank",
        "stream",
        "traits",
    )

    def __init__(self, now: float, values: Values) -> None:
        (
            self.n, self.queue, self.stream, self.job_class, priority, ageing_s, fence, delay_s, wanted_at,
            expires_s, expires_at, self.awaited_until, self.traits,
        ) = values  # fmt: skip
        self.due_at: float | None = None
        self.expires_at: float | None = None
        if not fence:
            self.expires_at = expires_at if expires_s is None else now + expires_s
            due_at = wanted_at if wanted_at is not None else now + delay_s
            self.due_at = due_at if due_at > now else None
        self.rank = rank(priority, now if self.due_at is None else self.due_at, ageing_s=ageing_s)


def pause(txn: Transaction, row: Row, outcome: Suspended) -> None:
    """Take a claim from its session; the job waits, whatever for."""
    record_steps(txn, row.n, outcome.steps)
    txn.execute(_SETTLE["unrun"], {"ns": [row.n]})
    txn.execute(_SQL["pause"], (row.fence, row.attempt, row.started_at, outcome.reason, row.n))
    txn.execute(_SQL["waits"], (row.n,))
    txn.move(row.queue, RUNNING, WAITING)


def wait(txn: Transaction, row: Row, outcome: Suspended) -> None:
    """Begin the wait of a job whose edges do not keep it: for an event, a time, or for nothing."""
    wanted = outcome.event
    until = None if outcome.delay_s is None else txn.now + outcome.delay_s
    if wanted is not None and not _take_event(txn, row.n, wanted):
        txn.execute(_SQL["await"], (wanted.name, wanted.key, wanted.step, row.n))
        if until is not None:
            txn.execute(_SQL["due"], (until, row.n))
            txn.execute(_SETTLE["deferred"], (until, row.n))
    elif wanted is None and until is not None:
        txn.execute(_GRAPH["stop_waiting"], {"ns": [row.n]})
        order = rank(row.priority, until, ageing_s=row.ageing_s)
        txn.execute(_SQL["postpone"], (until, order, row.n))
        txn.execute(_SETTLE["deferred"], (until, row.n))
        txn.move(row.queue, WAITING, SCHEDULED)
    else:
        txn.execute(_GRAPH["stop_waiting"], {"ns": [row.n]})
        let_go(txn, [row.n])
    txn.is_stirred = True


# --- steps and events ---------------------------------------------------------------------------
def record_steps(txn: Transaction, n: int, steps: Sequence[Step]) -> None:
    """Keep steps of a job; the first value of a key stays."""
    if steps:
        txn.many(_SQL["step"], [(n, step.key, step.value) for step in steps])
        flag(txn, [n], STEPS)


def steps(txn: Transaction, job_id: str, after: int, limit: int) -> list[Step]:
    """Return recorded steps, oldest first."""
    found = txn.rows(_SQL["steps"], {"id": job_id, "after": after, "limit": limit})
    return [Step(key, value) for key, value in found]


def _take_event(txn: Transaction, n: int, wanted: Await) -> bool:
    """Record the oldest event that fits as a step of the job; False where there is none."""
    about = {"name": wanted.name, "key": wanted.key}
    txn.rows(_SQL["one_at_a_time"], about)
    row = txn.row(_SQL["oldest_event"], about)
    if row is None:
        return False
    event_id, value = row
    txn.execute(_SQL["take_event"], (event_id,))
    record_steps(txn, n, [Step(wanted.step, value)])
    return True


def signal(txn: Transaction, event_id: str, about: tuple[str, str], value: bytes) -> str:
    """Hand an event to the oldest job that waits for it, or keep it; return the job's id or ""."""
    name, key = about
    where = {"name": name, "key": key}
    txn.rows(_SQL["one_at_a_time"], where)
    row = _oldest_that_waits(txn, where)
    kept = b"" if row else value
    if not txn.rows(_SQL["add_event"], (event_id, name, key, kept, txn.now, row is not None)):
        return ""
    if row is None:
        return ""
    [(_, step)] = txn.rows(_SQL["timed_out"], {"ns": [row.n]})
    record_steps(txn, row.n, [Step(step, value)])
    let_go(txn, [row.n])
    return row.id


def _oldest_that_waits(txn: Transaction, where: dict[str, str]) -> Row | None:
    waiting = txn.row(_SQL["waiting_for"], where)
    if waiting is None:
        return None
    rows = locked_rows(txn, waiting)
    if not rows or txn.row(_SQL["waiting_for"], where) != waiting:
        raise Retry
    return rows[0]


def time_out(txn: Transaction, ns: Sequence[int]) -> set[int]:
    """End the waits for an event of jobs that were promoted; return which of them waited for one."""
    waited = txn.rows(_SQL["timed_out"], {"ns": list(ns)})
    for n, step in waited:
        record_steps(txn, n, [Step(step or "", b"")])
    return {n for n, _ in waited}


def forget_events(txn: Transaction, batch: int) -> None:
    """Drop events that are too old."""
    txn.execute(_SQL["forget_events"], {"before": txn.now - KEEP_EVENT_S, "batch": batch})
