"""The verbs of schedules. A schedule is compared as the bytes that are kept of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from cicely.core.job import NewJob
from cicely.engines.contract import Schedule
from cicely.engines.redis.caller import Caller
from cicely.engines.redis.enqueueing import labels, told

_encode: Final = msgspec.msgpack.Encoder().encode
_schedule: Final = msgspec.msgpack.Decoder(Schedule).decode


def schedules(run: Caller) -> list[Schedule]:
    """Return every schedule, by name."""
    return sorted(map(schedule_in, run("schedules")), key=lambda schedule: schedule.name)


def put_schedule(run: Caller, schedule: Schedule) -> None:
    """Keep a schedule under its name."""
    run("put_schedule", schedule.name, _kept(schedule), _next_at(schedule))


def tick(run: Caller, seen: Schedule, then: Schedule, jobs: Sequence[NewJob]) -> bool:
    """Put `then` in place of `seen` and enqueue `jobs`, unless somebody was faster."""
    return bool(
        run("tick", seen.name, _kept(seen), _kept(then), _next_at(then), _encode(labels(jobs)), *told(jobs))
    )


def schedule_in(kept: bytes) -> Schedule:
    """Return the schedule behind what was kept."""
    return _schedule(kept)


def _kept(schedule: Schedule) -> bytes:
    """Return the one way in which a schedule is written: instants that are equal are written alike."""
    last_at, next_at = (None if at is None else float(at) for at in (schedule.last_at, schedule.next_at))
    return _encode(msgspec.structs.replace(schedule, last_at=last_at, next_at=next_at))


def _next_at(schedule: Schedule) -> str:
    return "" if schedule.paused or schedule.next_at is None else repr(float(schedule.next_at))
