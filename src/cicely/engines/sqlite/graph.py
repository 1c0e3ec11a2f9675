"""Jobs that come after others, as they are stored: traits of edges, nodes, and letting a waiting job go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from cicely.core.edge import Fate, fate_of
from cicely.core.job import NewJob, rank
from cicely.core.states import State
from cicely.engines.sqlite.gates import gates_of
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.transaction import (
    READY,
    SCHEDULED,
    WAITING,
    Transaction,
    Values,
    numbers,
    state_of,
    texts,
)

_SQL: Final = statements("graph")
_SWEEP: Final = statements("sweep")
_ENQUEUE: Final = statements("enqueue")


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[float, float | None, float | None, float | None]).decode


class Node(msgspec.Struct, gc=False):
    """What decides whether a waiting job goes on, in the order of the statement `nodes`."""

    n: int
    waits: int
    held: int
    pending: int
    broken: int
    joins: int
    event: str | None

    @property
    def is_free(self) -> bool:
        """Whether it waits for no job and no publication."""
        return self.pending + self.held == 0


def nodes_of(txn: Transaction, ns: Iterable[int]) -> dict[int, Node]:
    """Return the nodes of these jobs, of those that have one."""
    wanted = numbers(ns)
    return {row[0]: Node(*row) for row in txn.execute(_SQL["nodes"], (wanted,))} if wanted else {}


class End(msgspec.Struct, gc=False):
    """How a job's end counts for those after it, and the job where that began."""

    fate: Fate
    cause: str


def ends_of(txn: Transaction, ns: Iterable[int]) -> dict[int, End]:
    """Return the ends of those of these jobs that have ended."""
    wanted = numbers(ns)
    if wanted is None:
        return {}
    return {
        n: End(Fate.FAILURE if passes else fate_of(state_of(state)), cause or job_id)
        for n, state, passes, cause, job_id in txn.rows(_SQL["ends"], (wanted,))
    }


def origin_of(txn: Transaction, parent: int) -> End:
    """Return the end of a parent whose edge is broken; one that is gone counts as it was remembered."""
    found = ends_of(txn, (parent,)).get(parent)
    if found is not None:
        return found
    live = txn.row(_SQL["live_cause"], (parent,))
    if live is not None:
        return End(Fate.FAILURE, live[0])
    gone = txn.row(_SQL["gone_id"], (parent,))
    job_id = (gone[0] if gone else None) or ""
    return End(fates_of_gone(txn, (job_id,))[job_id], job_id)


def fates_of_gone(txn: Transaction, job_ids: Sequence[str]) -> dict[str, Fate]:
    """Return how the ends of deleted or unknown jobs count."""
    fates = dict.fromkeys(job_ids, Fate.FAILURE)
    wanted = texts(job_ids)
    if wanted is not None:
        fates |= {job_id: fate_of(state_of(state)) for job_id, state in txn.rows(_SQL["tombs"], (wanted,))}
    return fates


def flag(txn: Transaction, ns: Iterable[int], flags: int) -> None:
    """Note on the rows of jobs what else belongs to them."""
    wanted = numbers(ns)
    if wanted is not None:
        txn.execute(_SQL["flag"], (wanted, flags))


def start_of(new: NewJob) -> bytes | None:
    """Return what a job asked for of its start, for whenever it stops waiting; None for nothing."""
    if new.delay_s <= 0 and new.due_at is None and new.expires_s is None and new.expires_at is None:
        return None
    return _encode((new.delay_s, new.due_at, new.expires_s, new.expires_at))


def _wanted(start: bytes) -> tuple[float, float | None, float | None, float | None]:
    """Read what `start_of` wrote; bytes edited by hand ask for nothing."""
    try:
        return _decode(start)
    except msgspec.DecodeError:
        return 0.0, None, None, None


def go_free(txn: Transaction, ns: Sequence[int]) -> None:
    """Let jobs go, of which the last edges hold: of plain ones the wide row stays as it is."""
    alike: dict[Values, list[int]] = {}
    others = []
    for n, queue, job_class, priority, ageing_s, is_more in txn.rows(_SQL["freed"], (numbers(ns),)):
        if is_more:
            others.append(n)
        else:
            order = rank(priority, txn.now, ageing_s=ageing_s)
            alike.setdefault((queue, job_class, order), []).append(n)
    for (queue, job_class, order), some in alike.items():
        wanted = numbers(some)
        txn.execute(_SQL["go_free"], (wanted, order))
        txn.execute(_ENQUEUE["ready_alike"], (wanted, queue, job_class, order))
        txn.count(queue, WAITING, -len(some))
        txn.count(queue, READY, len(some))
    if others:
        txn.execute(_SQL["go_free"], (numbers(others), None))
        make_ready(txn, others)
    txn.freshen()


def let_go(txn: Transaction, ns: Sequence[int]) -> None:
    """Make jobs that wait no longer ready, or scheduled where they are not due before their first run."""
    if ns:
        txn.execute(_SQL["stop_waiting"], (numbers(ns),))
        make_ready(txn, ns)


def make_ready(txn: Transaction, ns: Sequence[int]) -> None:
    """Give jobs that have stopped waiting their place among the ready or the scheduled ones."""
    ready = txn.rows(_SQL["go_ready"], (numbers(ns), int(txn.now * 1e6)))
    if ready:
        _put_ready(txn, [row[0] for row in ready if not row[2]], [row[0] for row in ready if row[2]])
        for _, queue, _ in ready:
            txn.move(queue, WAITING, READY)
    if len(ready) < len(ns):
        at_once = {row[0] for row in ready}
        _start(txn, [n for n in ns if n not in at_once])
    txn.freshen()


def _put_ready(txn: Transaction, plain: Sequence[int], gated: Sequence[int]) -> None:
    if plain:
        txn.execute(_SWEEP["make_ready"], (numbers(plain),))
    if gated:
        gates_of(txn).streams.make_ready(gated)


def _start(txn: Transaction, ns: Sequence[int]) -> None:
    """Let jobs go that asked for a delay or a deadline: both count from now."""
    now = txn.now
    for n, queue, is_gated, job_class, priority, ageing_s, start in txn.rows(_SQL["starts"], (numbers(ns),)):
        delay_s, wanted_at, expires_s, expires_at = _wanted(start)
        expires_at = expires_at if expires_s is None else now + expires_s
        due_at = wanted_at if wanted_at is not None else now + delay_s
        is_due = due_at <= now
        order = rank(priority, now if is_due else due_at, ageing_s=ageing_s)
        txn.execute(_SQL["go_later"], (n, order, None if is_due else due_at, expires_at))
        if expires_at is not None:
            txn.execute(_ENQUEUE["expiring"], (expires_at, n))
        if is_due:
            if is_gated:
                gates_of(txn).streams.make_ready((n,))
            else:
                txn.execute(_ENQUEUE["ready"], (queue, job_class, order, n))
            txn.move(queue, WAITING, READY)
        else:
            txn.execute(_ENQUEUE["deferred"], (due_at, n))
            txn.move(queue, WAITING, SCHEDULED)


def standing(end: int | None, *, is_running: bool, waits: bool, due_at: float | None) -> State:
    """Return where a job stands whose row was read with what stands in other tables."""
    if end is not None:
        return state_of(end)
    if is_running:
        return State.RUNNING
    if waits:
        return State.WAITING
    return State.READY if due_at is None else State.SCHEDULED
