"""Has ready jobs of a workflow stand apart, for as long as they are ready, that draw what it has reserved.

Each answers with the streams that changed, which the caller tells flow control of: see `stood`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from cicely.engines.postgres import intents
from cicely.engines.postgres.intents import Kind, Work
from cicely.engines.postgres.limiting import read_flow
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.streams import Place, needs_of
from cicely.engines.postgres.transaction import Transaction
from cicely.engines.postgres.units import units_in
from cicely.engines.postgres.wire import Values

_SQL: Final = statements("reserve")


def draw(txn: Transaction, ns: Collection[int]) -> set[int]:
    """Have jobs that became ready in this call, and may draw, do so where what they want is reserved."""
    if not ns:
        return set()
    workflows = [workflow for workflow, _ in txn.rows(_SQL["share"], {"ns": list(ns)})]
    reserved = _reserved(txn, workflows)
    return _stand_apart(txn, _standing(txn, ns, reserved), reserved) if reserved else set()


def bind(txn: Transaction, workflow: str, ns: Collection[int]) -> set[int]:
    """Have those of a workflow's jobs that are ready by now draw what it has reserved."""
    reserved = _reserved(txn, [workflow])
    seen: set[int] = set()
    changed: set[int] = set()
    # One that moves while its place is waited for is looked for again.
    while reserved and (standing := _standing(txn, set(ns) - seen, reserved)):
        changed |= _stand_apart(txn, standing, reserved)
        seen.update(row[0] for row in standing)
    return changed


def bind_later(txn: Transaction, jobs: Sequence[tuple[int, str]]) -> None:
    """Leave it to a sweep to look at these workflows, each as of one of its jobs."""
    later = {workflow: n for n, workflow in jobs}
    intents.write(txn, [Work(Kind.BIND, n, workflow) for workflow, n in later.items()])


def _reserved(txn: Transaction, workflows: Sequence[str]) -> dict[str, set[str]]:
    """Return the names of the resources that workflows have reserved."""
    reserved: dict[str, set[str]] = {}
    for workflow, units in txn.rows(_SQL["reserved"], {"workflows": workflows}) if workflows else ():
        reserved.setdefault(workflow, set()).update(units_in(units))
    return reserved


def _standing(txn: Transaction, ns: Collection[int], reserved: Collection[str]) -> list[Values]:
    if not ns:
        return []
    return txn.rows(_SQL["standing"], {"ns": sorted(ns), "workflows": list(reserved)})


def _stand_apart(txn: Transaction, standing: Sequence[Values], reserved: dict[str, set[str]]) -> set[int]:
    """Move those that want something that is reserved. Raises Unplaced."""
    drawing = []
    for n, queue, stream, job_class, order, lane, stored, workflow in standing:
        flow = read_flow(stored)[0]
        if any(name in reserved[workflow] for name, _ in flow.resources):
            place = Place(queue, lane, job_class, needs_of(flow, draws=workflow))
            drawing.append((place, (n, queue, stream, job_class, order)))
    to = txn.names.streams.numbers_of([place for place, _ in drawing])
    moving = [(*row, number or 0) for (_, row), number in zip(drawing, to, strict=True) if row[2] != number]
    if not moving:
        return set()
    names = ("ns", "queues", "streams", "classes", "ranks", "to")
    txn.execute(_SQL["move"], dict(zip(names, map(list, zip(*moving, strict=True)), strict=True)))
    txn.spread += 1
    return {stream for row in moving for stream in (row[2], row[-1])}
