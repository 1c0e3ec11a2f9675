"""The verbs of schedules. A schedule is compared as the bytes that are kept of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from cicely.core.event import SCHEDULE_REMOVED, SCHEDULE_SET, kind_of_pause
from cicely.core.job import NewJob
from cicely.core.rollup import Count
from cicely.engines.contract import MARK, Schedule
from cicely.engines.redis.caller import Caller
from cicely.engines.redis.chronicle import reported_as
from cicely.engines.redis.enqueueing import accepted, labels, told

_encode: Final = msgspec.msgpack.Encoder().encode
_schedule: Final = msgspec.msgpack.Decoder(Schedule).decode


def schedules(run: Caller) -> list[Schedule]:
    """Return every schedule, by name."""
    return sorted(map(schedule_in, run("schedules")), key=lambda schedule: schedule.name)


def put_schedule(run: Caller, schedule: Schedule) -> None:
    """Keep a schedule under its name."""
    run(
        "put_schedule", schedule.name, _kept(schedule), _next_at(schedule), _told(SCHEDULE_SET, schedule.name)
    )


def drop_schedule(run: Caller, name: str) -> bool:
    """Forget a schedule; return whether it was known."""
    return bool(run("drop_schedule", name, _told(SCHEDULE_REMOVED, name)))


def tick(
    run: Caller, seen: Schedule, then: Schedule, jobs: Sequence[NewJob], counts: Sequence[Count]
) -> bool:
    """Put `then` in place of `seen`, enqueue `jobs` and add `counts`, unless somebody was faster."""
    turned = _told(kind_of_pause(was_paused=seen.paused, is_paused=then.paused), seen.name)
    reported = _encode([word for one in counts for word in reported_as(one)])
    words = (seen.name, _kept(seen), _kept(then), _next_at(then), turned, reported, _encode(labels(jobs)))
    return bool(accepted(run("tick", *words, *told(jobs))))


def _told(kind: str | None, name: str) -> str:
    """Return the event that is told of a schedule, "" for none."""
    return "" if kind is None or name.startswith(MARK) else kind


def schedule_in(kept: bytes) -> Schedule:
    """Return the schedule behind what was kept."""
    return _schedule(kept)


def _kept(schedule: Schedule) -> bytes:
    """Return the one way in which a schedule is written: instants that are equal are written alike."""
    last_at, next_at = (None if at is None else float(at) for at in (schedule.last_at, schedule.next_at))
    return _encode(msgspec.structs.replace(schedule, last_at=last_at, next_at=next_at))


def _next_at(schedule: Schedule) -> str:
    return "" if schedule.paused or schedule.next_at is None else repr(float(schedule.next_at))
