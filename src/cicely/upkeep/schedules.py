"""Carrying schedules out: any worker may, any number at once, and each tick gets one job.

Whoever finds a schedule due computes the same turn from what is stored and from the engine's clock,
and `tick` carries out only the first. Changes by people are made the same way: against the record
that was read, again where somebody was faster.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from cicely.core.failpoints import failpoint
from cicely.core.job import Enqueued, NewJob
from cicely.core.rollup import Count, Word
from cicely.core.schedule import (
    FROM_NOW,
    Plan,
    Turn,
    at_once,
    decode,
    due_ticks,
    encode,
    in_utc,
    job_of,
    turn,
)
from cicely.engines.contract import MARK, Engine, Schedule, Swept
from cicely.errors import ConfigError

log = logging.getLogger("cicely.schedules")

#: A tick that nobody has dealt with for so long is overdue.
OVERDUE_S: Final = 60.0

#: Whoever ticks has to beat as well, three times within a lease that may be a second.
SCHEDULES_PER_LOOK: Final = 10


class Ticker:
    """One worker's part in keeping an engine's schedules."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._refused: dict[str, bytes] = {}

    def tick(self, swept: Swept) -> bool:
        """Deal with some of what a sweep found due; return whether another sweep may find more at once.

        A schedule that this version or machine cannot read is left to others, and told of once.
        """
        due = [one for one in swept.due if self._refused.get(one.name) != one.spec]
        if len(due) > SCHEDULES_PER_LOOK:
            # Workers that look at the same instant share the work.
            due = random.sample(due, SCHEDULES_PER_LOOK)
        dealt_with = [self._tick_one(schedule, swept.now) for schedule in due]
        return any(dealt_with)

    def _tick_one(self, schedule: Schedule, now: float) -> bool:
        try:
            carry_out(self._engine, schedule, now)
        except ConfigError as error:
            self._refused[schedule.name] = schedule.spec
            log.warning("schedule %s is left to other workers: %s", schedule.name, error)
            return False
        return True


def carry_out(engine: Engine, seen: Schedule, now: float) -> bool:
    """Take one turn of a schedule at the engine's `now`; False where somebody was faster.

    Raises ConfigError for a schedule that cannot be read here.
    """
    plan = decode(seen.spec, name=seen.name)
    if seen.paused or seen.next_at is None:
        return False
    step = turn(plan, next_at=seen.next_at, last_at=seen.last_at, now=now)
    jobs = [job_of(plan, seen.name, tick) for tick in step.ticks]
    if step.missed_at is not None:
        plan = msgspec.structs.replace(plan, missed_at=step.missed_at)
    spec = seen.spec if step.missed_at is None else encode(plan)
    then = msgspec.structs.replace(seen, spec=spec, last_at=step.last_at, next_at=step.next_at)
    failpoint("schedules.before-tick")
    if not engine.tick(seen, then, jobs, _counts(seen.name, step)):
        return False
    failpoint("schedules.after-tick")
    if step.missed_at is not None:
        log.warning("schedule %s: no job for ticks up to %s, too late", seen.name, in_utc(step.missed_at))
    if any(job.unique for job in jobs):
        _note_skipped(engine, then, plan, jobs=jobs, ticks=step.ticks)
    return True


def _counts(name: str, step: Turn) -> tuple[Count, ...]:
    """Return what the rollups are to say of a turn."""
    if not step.due:
        return ()
    return Count(Word.TICKS_DUE, step.due, name), Count(Word.TICKS_MADE, len(step.ticks), name)


def _note_skipped(
    engine: Engine, then: Schedule, plan: Plan, *, jobs: Sequence[NewJob], ticks: Sequence[float]
) -> None:
    """Write down the ticks whose job was not stored because another live one has its key."""
    known = engine.get([job.id for job in jobs])
    skipped = [tick for tick, job in zip(ticks, known, strict=True) if job is None]
    if not skipped:
        return
    at = skipped[-1]
    log.info("schedule %s: no job for %s, an earlier one has not ended", then.name, in_utc(at))
    noted = msgspec.structs.replace(plan, skipped=plan.skipped + len(skipped), skipped_at=at)
    # Where somebody was faster, the log has it: what counts is that no second job runs.
    engine.tick(then, msgspec.structs.replace(then, spec=encode(noted)), ())
    engine.report([Count(Word.TICKS_SKIPPED, len(skipped), then.name)])


def kept(engine: Engine) -> list[Schedule]:
    """Return the schedules that people or code declared, by name: no marks."""
    return [schedule for schedule in engine.schedules() if not schedule.name.startswith(MARK)]


def overdue_ticks(engine: Engine, *, now: float) -> int:
    """Return how many ticks of awake schedules are due for longer than workers may take."""
    count = 0
    for schedule in kept(engine):
        if schedule.paused or schedule.next_at is None or schedule.next_at <= FROM_NOW:
            continue
        try:
            plan = decode(schedule.spec, name=schedule.name)
        except ConfigError:
            continue
        count += due_ticks(plan.when, schedule.next_at, now - OVERDUE_S)
    return count


# --- changes by people --------------------------------------------------------------------------
def stored(engine: Engine, name: str) -> Schedule | None:
    """Return the schedule of this name, or None."""
    return next((schedule for schedule in engine.schedules() if schedule.name == name), None)


def change(engine: Engine, name: str, amend: Callable[[Schedule], Schedule]) -> Schedule | None:
    """Put what `amend` makes of a schedule in its place, and return it; None where it is unknown.

    `amend` is called again where a worker's turn came between.
    """
    while (seen := stored(engine, name)) is not None:
        then = amend(seen)
        if then == seen or engine.tick(seen, then, ()):
            return then
    return None


def pause(engine: Engine, name: str) -> bool:
    """Let a schedule make no more jobs; False where it is unknown."""
    return change(engine, name, lambda seen: msgspec.structs.replace(seen, paused=True)) is not None


def resume(engine: Engine, name: str) -> bool:
    """Let a paused schedule go on; False where it is unknown. Ticks that came meanwhile are late ones."""
    return change(engine, name, lambda seen: msgspec.structs.replace(seen, paused=False)) is not None


def run(engine: Engine, name: str, job_id: str) -> Enqueued | None:
    """Enqueue the job of a schedule now, under an id of its own; None where the schedule is unknown."""
    record = stored(engine, name)
    if record is None:
        return None
    [answer] = engine.enqueue([at_once(decode(record.spec, name=name), name, job_id)])
    return answer


def declare(engine: Engine, specs: Mapping[str, bytes]) -> list[str]:
    """Bring schedules up to date with the code, and return the names of those that changed.

    A new one counts from now on. One that ticks by another rule than before does, too, and keeps
    its last tick; any other change leaves its ticks as they are. Paused ones stay paused.
    """
    known = {schedule.name: schedule for schedule in kept(engine)} if specs else {}
    return [name for name, spec in specs.items() if _declare_one(engine, known.get(name), name, spec=spec)]


def _declare_one(engine: Engine, known: Schedule | None, name: str, *, spec: bytes) -> bool:
    if known is not None:
        if amended(known, spec) == known:
            return False
        if change(engine, name, lambda seen: amended(seen, spec)) is not None:
            return True
    engine.put_schedule(Schedule(name=name, spec=spec, next_at=FROM_NOW))
    return True


def amended(seen: Schedule, spec: bytes) -> Schedule:
    """Return a stored schedule with what the code says of it now."""
    plan = decode(spec, name=seen.name)
    try:
        before = decode(seen.spec, name=seen.name)
    except ConfigError:
        return msgspec.structs.replace(seen, spec=spec, next_at=FROM_NOW)
    if plan.says_what(before):
        return seen
    kept = msgspec.structs.replace(
        plan, skipped=before.skipped, skipped_at=before.skipped_at, missed_at=before.missed_at
    )
    is_new_rule = plan.when != before.when
    return msgspec.structs.replace(seen, spec=encode(kept), next_at=FROM_NOW if is_new_rule else seen.next_at)
