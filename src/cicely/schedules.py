"""Schedules as a user holds them: declared beside the tasks or added at run time, kept by the engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from difflib import get_close_matches
from itertools import chain, islice
from typing import Any, Final

import msgspec

from cicely.canvas import Canvas
from cicely.connection import Connection
from cicely.core.job import NewJob
from cicely.core.schedule import (
    FROM_NOW,
    CatchUp,
    Overlap,
    Plan,
    Source,
    catch_up_of,
    checked_name,
    decode,
    encode,
    overlap_of,
)
from cicely.core.units import Duration, duration_s
from cicely.core.when import Cron, Every, When, upcoming, zone_of
from cicely.dispatch import refuse_references
from cicely.engines.contract import Engine
from cicely.engines.contract import Schedule as Record
from cicely.errors import ConfigError, NotStorable
from cicely.handles import Job
from cicely.orders import Order, fresh_id
from cicely.settings import job_options
from cicely.tasks import Requests
from cicely.upkeep.schedules import kept, pause, resume, run, stored
from cicely.values import INLINE_BYTES
from cicely.workflow.nodes import Call

#: Options that mean one job only.
_NOT_OF_EACH_TICK: Final = ("id", "eta", "after", "on", "connection")
_A_WORKER_DECLARES: Final = "what is declared in code is put into the engine when a worker starts"


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """When a schedule ticks, and what becomes of ticks that come late or too soon."""

    when: When
    catch_up: CatchUp = CatchUp.ONE
    overlap: Overlap = Overlap.ALLOW
    jitter_s: float = 0.0


def rule_of(when: object, *, catch_up: object, overlap: object, jitter: Duration) -> Rule:
    """Return what people wrote, checked. Raises ConfigError."""
    if not isinstance(when, Every | Cron):
        raise ConfigError(
            f'a schedule ticks {when!r}: write every("30s"), or cron("*/5 * * * *", tz="Europe/Berlin")'
        )
    return Rule(
        when=when,
        catch_up=catch_up_of(catch_up),
        overlap=overlap_of(overlap),
        jitter_s=duration_s(jitter, name="jitter"),
    )


def call_of(name: str, asked: object) -> Call:
    """Return what a signature calls; of a task, itself without arguments. Raises ConfigError."""
    if isinstance(asked, Requests):
        asked = asked.s()
    node = asked.node if isinstance(asked, Canvas) else asked
    if isinstance(node, Call) and not (node.links or node.errbacks):
        return node
    raise ConfigError(
        f"schedule {name} enqueues {asked!r}: write task.s(...), without link and link_error; for several "
        "jobs at each tick, schedule a task that returns their chain, group or chord"
    )


class Schedules:
    """The schedules of one app: those that its code declares, and those that its engine keeps."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._declared: dict[str, tuple[Call, Rule]] = {}

    def declare(self, name: str, call: Call, rule: Rule) -> Schedule:
        """Note a schedule of the code. Raises ConfigError for a name that is taken, and as `plan` does."""
        if checked_name(name) in self._declared:
            raise ConfigError(f"two schedules are called {name}: give one of them another name")
        self.plan(name, call, rule)
        self._declared[name] = (call, rule)
        return self.handle(name)

    def add(self, name: str, call: Call, rule: Rule) -> Schedule:
        """Keep a schedule in the engine, from now on. Raises ConfigError for a name that is taken."""
        spec = encode(self.plan(checked_name(name), call, rule, source=Source.COMMAND))

        def put(engine: Engine) -> None:
            known = stored(engine, name)
            # The same again: an answer was lost.
            if known is not None and known.spec != spec:
                raise ConfigError(
                    f"there is a schedule {name} already: remove it first, or choose another name"
                )
            engine.put_schedule(Record(name=name, spec=spec, next_at=FROM_NOW))

        if name in self._declared:
            raise ConfigError(f"the app declares a schedule {name}: change it there, or choose another name")
        self._connection.call(put)
        return self.handle(name)

    def plan(self, name: str, call: Call, rule: Rule, *, source: Source = Source.CODE) -> Plan:
        """Return a schedule in full.

        Raises UnknownTask, TypeError for arguments that do not fit, NotStorable for those that cannot
        be kept or take more than 64 KiB, and ConfigError for options that mean one job only.
        """
        job = _template(self._connection, name, call)
        latest_s = job.delay_s + rule.jitter_s
        if job.expires_s is not None and latest_s >= job.expires_s:
            raise ConfigError(
                f"schedule {name}: its jobs start up to {latest_s:g} s after their tick (jitter= and "
                f"countdown=), and expire after {job.expires_s:g} s: make expires= longer"
            )
        return Plan(
            when=rule.when,
            job=job,
            catch_up=rule.catch_up,
            overlap=rule.overlap,
            jitter_s=rule.jitter_s,
            source=source,
        )

    def specs(self) -> dict[str, bytes]:
        """Return what the code declares, as engines keep it."""
        # Not before: queues and routes may be declared after the schedules.
        return {name: encode(self.plan(name, *declared)) for name, declared in self._declared.items()}

    def declares(self, name: str) -> bool:
        """Whether the code declares a schedule of this name."""
        return name in self._declared

    def all(self) -> list[Schedule]:
        """Return those that the engine keeps and those that the code declares, by name."""
        names = {record.name for record in self._connection.call(kept)}
        return [self.handle(name) for name in sorted(names | self._declared.keys())]

    def handle(self, name: str) -> Schedule:
        """Return the handle of a schedule."""
        declared = self._declared.get(name)
        return Schedule(self._connection, name, lambda: self.plan(name, *declared) if declared else None)


def _template(connection: Connection, name: str, call: Call) -> NewJob:
    where = f"schedule {name}"
    refuse_references(call)
    for option in _NOT_OF_EACH_TICK:
        if option in call.options:
            raise ConfigError(f"{where}: {option}= means one job, and each tick makes one: leave it out")
    options = job_options(dict(call.options))  # type: ignore[arg-type]  # checked there
    if options.expires_at is not None:
        raise ConfigError(f'{where}: expires= is counted from each tick: write a duration, such as "10m"')
    task = connection.task(call.task) or connection.registry.task(call.task)
    order = Order(task, options, connection.registry)
    values = connection.values_in(None, patience_s=0.0)
    job = order.new_job(call.args, dict(call.kwargs), values, job_id=name)
    if len(job.body) > INLINE_BYTES:
        raise NotStorable(
            f"{where}: the arguments take {len(job.body):,} bytes, and a schedule keeps up to "
            f"{INLINE_BYTES:,}: pass a path or a key, and let the job read what lies there"
        )
    return msgspec.structs.replace(job, id="")


class Schedule:
    """One schedule, by name. Its answers are what the engine says now."""

    def __init__(self, connection: Connection, name: str, declared: Callable[[], Plan | None]) -> None:
        self.name = name
        self._connection = connection
        self._declared = declared

    def __repr__(self) -> str:
        """Name the schedule."""
        return f"<schedule {self.name}>"

    @property
    def paused(self) -> bool:
        """Whether it makes no jobs until it is resumed."""
        return self._record().paused

    @property
    def last(self) -> datetime | None:
        """The last tick that was dealt with, or None."""
        last_at = self._record().last_at
        return None if last_at is None else local(self._plan(), last_at)

    @property
    def skipped(self) -> int:
        """How many ticks made no job because that of an earlier one had not ended."""
        return self._plan().skipped

    def next(self, count: int = 5) -> list[datetime]:
        """Return the next ticks, in the time zone of its rule; for a paused one, as if it were resumed."""
        record = self._stored()
        plan = self._plan(record)
        return [local(plan, tick) for tick in islice(next_ticks(plan, record, now=time.time()), count)]

    def pause(self) -> None:
        """Make no more jobs; those that were made go on. Raises ConfigError where it is unknown."""
        self._steer(pause)

    def resume(self) -> None:
        """Go on. What becomes of the ticks that came meanwhile is what `catch_up` says."""
        self._steer(resume)

    def remove(self) -> bool:
        """Forget it; False where it was unknown. What the code declares, the next worker puts back."""
        return self._connection.call(lambda engine: engine.drop_schedule(self.name))

    def run(self) -> Job[Any]:
        """Enqueue its job now, beside its ticks, and return the handle.

        With `overlap="skip"`, and while an earlier job has not ended, the handle is that job's.
        """
        job_id = by_hand_id(self.name)
        answer = self._connection.call(lambda engine: run(engine, self.name, job_id))
        if answer is None:
            raise self._unknown()
        return Job(self._connection, answer.id)

    def _steer(self, move: Callable[[Engine, str], bool]) -> None:
        if not self._connection.call(lambda engine: move(engine, self.name)):
            raise self._unknown()

    def _plan(self, record: Record | None = None) -> Plan:
        record = record or self._stored()
        if record is not None:
            return decode(record.spec, name=self.name)
        declared = self._declared()
        if declared is None:
            raise self._unknown()
        return declared

    def _record(self) -> Record:
        record = self._stored()
        if record is None:
            raise self._unknown()
        return record

    def _stored(self) -> Record | None:
        return self._connection.call(lambda engine: stored(engine, self.name))

    def _unknown(self) -> ConfigError:
        return self._connection.call(lambda engine: unknown(engine, self.name))


def by_hand_id(name: str) -> str:
    """Return an id for a job that a person asks for, beside the ticks."""
    return f"{name}@{fresh_id()}"


def unknown(engine: Engine, name: str) -> ConfigError:
    """Return the error for a schedule that the engine does not keep, with the nearest name."""
    near = get_close_matches(name, [schedule.name for schedule in kept(engine)], n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; {_A_WORKER_DECLARES}"
    return ConfigError(f"the engine keeps no schedule {name}{hint}")


def next_ticks(plan: Plan, record: Record | None, *, now: float) -> Iterator[float]:
    """Yield the ticks to come, by the clock of whoever looks; engines go by their own."""
    next_at = record.next_at if record is not None else FROM_NOW
    if next_at is None:
        return iter(())
    if next_at > now:
        return chain([next_at], upcoming(plan.when, next_at))
    return upcoming(plan.when, now)


def local(plan: Plan, instant: float) -> datetime:
    """Return an instant in the time zone of a schedule's rule."""
    zone = zone_of(plan.when.tz) if isinstance(plan.when, Cron) else UTC
    return datetime.fromtimestamp(instant, zone)
