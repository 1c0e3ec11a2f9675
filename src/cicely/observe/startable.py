"""Which of the jobs that wait a further process could start: what scaling counts.

A look is bounded, however much waits: some jobs stand for those of their queue and task, and one of those
that need the same is explained for all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Final

import msgspec

from cicely.core.flow import NO_NEEDS, Needs
from cicely.core.job import Filter, Job
from cicely.core.states import State
from cicely.engines.contract import Engine, QueueRecord, SessionRecord, Surroundings
from cicely.observe.explain import able, explain, serving
from cicely.observe.reasons import Reason
from cicely.observe.shut import room, shut

#: Of so many queues, the longest, the newest ready jobs are seen, so many of each; of all these so many
#: are read, and of these so many explained.
QUEUES: Final = 5
_SEEN: Final = 200
_READ: Final = 50
_EXPLAINED: Final = 10

#: What no further process changes, beside a valve that is shut.
_HELD_BACK: Final = frozenset(
    {
        Reason.PAUSED,
        Reason.NO_TASK,
        Reason.NOT_ACCEPTED,
        Reason.TOO_LARGE,
    }
)
#: What a further process of the same worker does not change either: all share what the worker has.
_HELD_BACK_HERE: Final = _HELD_BACK | {Reason.RESOURCE, Reason.KEPT}

#: The queue and the task of a job.
Place = tuple[str, str]


class Alike(msgspec.Struct, frozen=True):
    """`count` jobs of a queue, of which as many could start at once as there is `room` for.

    `idle` are the processes that could run them, or where there is no room those of their queue, and do
    nothing.
    """

    queue: str
    count: float
    room: float
    idle: frozenset[str] = frozenset()


class Startable(msgspec.Struct, frozen=True):
    """What waits in some queues, told apart: see `Backlog` for the numbers."""

    waiting: int = 0
    held_back: int = 0
    startable: float = 0.0
    idle: int = 0


def startable_of(queues: Iterable[QueueRecord], seen: Sequence[Alike]) -> Startable:
    """Return what waits in these queues, where so many alike were seen; those of paused ones left out."""
    records = {record.name: record.counts.get(State.READY, 0) for record in queues if not record.paused}
    parts = [_in_queue(ready, [one for one in seen if one.queue == name]) for name, ready in records.items()]
    here = [one for one in seen if one.queue in records]
    open_ = [one for one in here if one.room] or here
    return Startable(
        waiting=sum(part.waiting for part in parts),
        held_back=sum(part.held_back for part in parts),
        startable=sum(part.startable for part in parts),
        idle=len(frozenset[str]().union(*(one.idle for one in open_))),
    )


def _in_queue(ready: int, seen: Sequence[Alike]) -> Startable:
    """Return what waits in one queue: those that were seen stand for all, unless none of them can start."""
    if not seen:
        return Startable(waiting=ready, startable=ready)
    total = sum(one.count for one in seen)
    if not any(one.room for one in seen):
        # What was not seen may be of another kind. One process more will show it: it stays idle, or does not.
        unseen = max(0, ready - round(total))
        return Startable(waiting=unseen, held_back=ready - unseen, startable=min(unseen, 1))
    share = ready / total
    waiting = min(ready, round(share * sum(one.count for one in seen if one.room)))
    startable = sum(min(share * one.count, one.room) for one in seen)
    return Startable(waiting=waiting, held_back=ready - waiting, startable=startable)


def seen_waiting(engine: Engine, queues: Collection[str], *, worker: str = "") -> list[Alike]:
    """Look at jobs that are ready in these queues, for a further process of `worker`.

    Without `worker`: for another worker like those that are up.
    """
    places: dict[Place, list[Job]] = {}
    for queue in queues:
        for job in engine.find(Filter(states=(State.READY,), queue=queue), limit=_SEEN).jobs:
            places.setdefault((queue, job.task), []).append(job)
    alike = _alike(engine, dict(sorted(places.items(), key=lambda one: -len(one[1]))))
    explained = [_explained(engine, *one, worker=worker) for one in alike[:_EXPLAINED]]
    unseen = set(queues) - {queue for queue, _ in places}
    return [
        *explained,
        *(Alike(job.queue, count, count) for job, count in alike[_EXPLAINED:]),
        *(_unseen(engine, queue, worker=worker) for queue in sorted(unseen)),
    ]


def _unseen(engine: Engine, queue: str, *, worker: str) -> Alike:
    """Return a queue whose jobs are older than all that a look sees, and who could show what they are."""
    there = (
        record
        for record in engine.sessions()
        if record.session.tasks
        and worker in ("", record.session.worker)
        and (not record.session.queues or queue in record.session.queues)
    )
    return Alike(queue, 0.0, 0.0, _idle(there))


def _alike(engine: Engine, places: Mapping[Place, Sequence[Job]]) -> list[tuple[Job, float]]:
    """Return a job for each kind of them, with how many it stands for, the most first."""
    each = max(1, _READ // max(1, len(places)))
    read = dict(islice(places.items(), _READ))
    chosen = {place: jobs[:: -(-len(jobs) // each)] for place, jobs in read.items()}
    found = iter(engine.get([job.id for jobs in chosen.values() for job in jobs]))
    counts: dict[tuple[Place, Needs], tuple[Job, float]] = {}
    for place, jobs in chosen.items():
        for job in islice(found, len(jobs)):
            if job is not None and job.state is State.READY:
                needs = job.flow.needs if job.flow else NO_NEEDS
                first, count = counts.get((place, needs), (job, 0.0))
                counts[place, needs] = (first, count + len(places[place]) / len(jobs))
    rest = [(jobs[0], float(len(jobs))) for place, jobs in places.items() if place not in read]
    return sorted(counts.values(), key=lambda one: -one[1]) + rest


def _explained(engine: Engine, job: Job, count: float, *, worker: str) -> Alike:
    around = engine.surroundings(job.id)
    if around is None or around.job.state is not State.READY:
        return Alike(job.queue, count, count)
    here = _of_worker(around, worker)
    held_back = _HELD_BACK_HERE if here is not around else _HELD_BACK
    if shut(here) is not None or explain(here).reason in held_back:
        return Alike(job.queue, count, 0.0, _idle(serving(here)))
    return Alike(job.queue, count, min(count, room(here)), _idle(able(here)))


def _idle(sessions: Iterable[SessionRecord]) -> frozenset[str]:
    return frozenset(record.session.id for record in sessions if not record.held)


def _of_worker(around: Surroundings, worker: str) -> Surroundings:
    """Return what is around a job where only the children of one worker are there, if it has any."""
    own: list[SessionRecord] = [
        record for record in around.sessions if record.session.worker == worker and record.session.tasks
    ]
    return msgspec.structs.replace(around, sessions=tuple(own)) if own else around
