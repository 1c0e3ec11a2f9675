"""A scenario of workflows, durable steps and a schedule, for the crash loop.

Everything has an id that follows from what it is, so that each life asks for the same. What a job calls
or returns has not: an attempt that dies in between has begun nothing, and what it wrote stays behind.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
from crash_life import BOUND_S, Life, get, words

import cicely
from cicely import Cicely, Retry, chain, chord, every, group, stable
from cicely.core.job import Job
from cicely.core.journal import Note, StepKind
from cicely.core.schedule import tick_id
from cicely.core.states import State
from cicely.engines.contract import Engine, Schedule
from cicely.testing.fleet import wait_for
from cicely.testing.ledger import Ledger, Line, judge
from cicely.testing.torture.report import fences_out_of_order_in, unexplained_in
from cicely.upkeep.schedules import stored
from cicely.worker.control import Drain

#: More than a call carries out at once, and more than a page of the scenario.
WIDE = 260
PAGE_JOBS = 100

CLOCK = "clock"
#: So many ticks are due when the schedule begins, and so many are waited for.
LATE_TICKS, TICKS = 4, 5

#: What the jobs that are asked for by name come to.
VALUES: dict[str, object] = {
    "becomes": 3 + 1_000,
    "calls": [3, [1, 2, 3]],
    "grows": 3 + 303,
    "walks": ["one", 1, 2, "two"],
    "walks_async": ["one", 1, 2, "two"],
}
EVENTS = (1, 2)

#: How many jobs of each task end in which state, those of the schedule left out.
ENDS = {
    # a chain, two chords in one, a broken chord, what is returned, called and grown
    ("plus", State.SUCCEEDED): 3 + 9 + 2 + (3 + 1) + 3 + 3,
    ("total", State.SUCCEEDED): 4 + 1 + 1,
    ("joins", State.SUCCEEDED): 3,
    ("told", State.SUCCEEDED): 3,
    ("fails", State.FAILED): 3,
    ("plus", State.CANCELLED): 1 + WIDE,
    ("total", State.CANCELLED): 2,
    **{(name, State.SUCCEEDED): 1 for name in VALUES},
}


class Tasks:
    """The functions of the scenario; each attempt is noted in the ledger, each run of a step in a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ledger = Ledger(folder / "ledger")
        self.of: dict[str, Any] = {}

    @contextlib.contextmanager
    def noted(self) -> Iterator[cicely.Context]:
        context = cicely.current()
        with self.ledger.attempt(context.job_id, context.fence):
            try:
                yield context
            except BaseException as error:
                # Not an end, and no accident: it goes on as soon as it may.
                if not isinstance(error, Exception):
                    note(self.folder, "unwound", f"{context.job_id} {context.fence}")
                raise

    def noted_step(self, value: object) -> list[object]:
        """Run as a step: the number of this run is part of its value."""
        run = os.urandom(4).hex()
        note(self.folder, "steps", f"{cicely.current().step_key} {run}")
        return [value, run]

    async def noted_step_async(self, value: object) -> list[object]:
        return self.noted_step(value)

    def plus(self, a: int, b: int = 1) -> int:
        with self.noted():
            return a + b

    def total(self, numbers: list[int]) -> int:
        with self.noted():
            return sum(numbers)

    def fails(self, word: str) -> None:
        with self.noted():
            raise ValueError(word)

    def told(self, job_id: str, error: str, traceback: str, *, word: str) -> str:
        with self.noted():
            assert "Traceback" in traceback
            assert error == f"ValueError: {word}"
            return job_id

    def becomes(self) -> object:
        with self.noted():
            return chord([self.of["plus"].s(n, 0) for n in range(3)], self.of["total"].s()) | self.of[
                "plus"
            ].s(1_000)

    def calls(self) -> list[object]:
        with self.noted() as context:
            [first, _] = context.step("first", self.noted_step, 3)
            return [first, context.call(group(self.of["plus"].s(n) for n in range(3)))]

    def grows(self) -> object:
        with self.noted():
            return chord([self.of["joins"].s(n) for n in range(3)], self.of["total"].s())

    def joins(self, number: int) -> int:
        with self.noted() as context:
            context.add_to_group(self.of["plus"].s(number, 100))
            return number

    def walks(self) -> list[object]:
        with self.noted() as context:
            [one, _] = context.step("one", self.noted_step, "one")
            context.sleep(0.05)
            heard = [context.wait_for("go") for _ in EVENTS]
            [two, _] = context.step("two", self.noted_step, "two")
            if context.attempt == 1:
                raise ConnectionError
            return [one, *heard, two]

    async def walks_async(self) -> list[object]:
        with self.noted() as context:
            [one, _] = await context.step("one", self.noted_step_async, "one")
            context.sleep(0.05)
            heard = [context.wait_for("go") for _ in EVENTS]
            [two, _] = await context.step("two", self.noted_step_async, "two")
            return [one, *heard, two]

    def ticks(self) -> None:
        with self.noted():
            pass


TASKS = ("plus", "total", "fails", "told", "becomes", "calls", "grows", "joins", "walks", "walks_async")


class Workflows:
    """The workflows on the engine at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def life(self, folder: Path) -> LifeOfWorkflows:
        """Return a life on its engine."""
        return LifeOfWorkflows(folder, self.url)

    def faults(self, folder: Path, dead: set[int]) -> list[str]:
        """Return what is wrong after the last life; `dead` are the pids that died."""
        life = self.life(folder)
        try:
            return [*Findings(life, dead).all()]
        finally:
            life.close()


class LifeOfWorkflows(Life):
    """A life with the workflows of the scenario."""

    def __init__(self, folder: Path, url: str) -> None:
        app = Cicely("crash", url, functions_from=[])
        super().__init__(folder, app)
        tasks = Tasks(folder)
        options = {"walks": {"retry": Retry(attempts=2, backoff=0.01)}}
        for name in (*TASKS, "ticks"):
            tasks.of[name] = app.task(name=name, **options.get(name, {}))(getattr(tasks, name))
        self.tasks = tasks.of
        app.schedule(CLOCK, tasks.of["ticks"].s(), every("1s"), catch_up="all")

    def live(self) -> None:
        # Small pages, so that what is written in several can be cut between two.
        with mock.patch("cicely.workflow.pages.PAGE_JOBS", PAGE_JOBS):
            super().live()

    def prepare(self) -> None:
        """Put the schedule into the engine as of some seconds ago."""
        if not words(self.folder, "begun"):
            self.note("begun", str(int(time.time()) - LATE_TICKS + 1))
        if stored(self.engine, CLOCK) is None:
            spec = self.app.declared_schedules()[CLOCK]
            self.engine.put_schedule(Schedule(name=CLOCK, spec=spec, next_at=self.first_tick_at))

    @property
    def first_tick_at(self) -> float:
        return float(words(self.folder, "begun")[0])

    def produce(self) -> None:
        for name in VALUES:
            self.tasks[name].options(id=name).delay()
            self.acknowledge([name])
        for name in ("walks", "walks_async"):
            self.tell(name)
        jobs = self.workflows()
        self.acknowledge([job.id for job in jobs])
        self.await_ticks()
        self.await_rest([*VALUES, *(job.id for job in jobs)])
        self.control.say(Drain())

    def tell(self, job_id: str) -> None:
        """Send the events of a job; a repeated one is the same."""
        for value in EVENTS:
            data = self.app._connection.values.pack_event(value, where="an event")
            self.app.engine.signal(f"{job_id} {value}", "go", job_id, data)

    def workflows(self) -> list[Any]:
        """Enqueue the chain and the chords, the whole ones first."""
        one_by_one = chain(self.sig("plus", 1), self.sig("plus", 10), self.sig("plus", 100))
        inner = [chord([self.sig("plus", n, m) for n in range(3)], self.sig("total")) for m in range(3)]
        broken = chord(
            [self.sig("plus", 1, 50), self.sig("fails", "chord"), self.sig("plus", 2, 50)],
            self.sig("total"),
        )
        members = group(self.sig("plus", n) for n in range(WIDE))
        canvases = [
            one_by_one,
            chord(inner, self.sig("total")),
            (self.sig("fails", "chain") | self.sig("plus", 7)).on_error(self.told("chain")),
            broken.on_error(self.told("chord")),
            (self.sig("fails", "wide") | members | self.sig("total")).on_error(self.told("wide")),
        ]
        return [canvas.delay() for canvas in canvases]

    def sig(self, name: str, *args: object) -> Any:
        return self.tasks[name].s(*args).set(id=stable("v1"))

    def told(self, word: str) -> Any:
        return self.tasks["told"].s(word=word).set(id=stable("v1"))

    def await_ticks(self) -> None:
        """Wait for the late ticks and for one on time, then pause the schedule."""
        last_at = self.first_tick_at + TICKS - 1

        def has_ticked() -> bool:
            found = stored(self.app.engine, CLOCK)
            return found is not None and (found.last_at or 0.0) >= last_at

        wait_for(has_ticked, within_s=BOUND_S, what="ticks")
        [schedule] = self.app.schedules()
        schedule.pause()

    def await_rest(self, ids: list[str]) -> None:
        def moving() -> list[Job]:
            return [job for job in get(self.app.engine, ids) if not job.state.is_final]

        def is_at_rest() -> bool:
            return not moving() and count_ends(self.app.engine) >= sum(ENDS.values()) + self.ticked()

        try:
            wait_for(is_at_rest, within_s=BOUND_S)
        except AssertionError as late:
            raise AssertionError(f"{self.app.engine.queues()}, still moving: {moving()}") from late

    def ticked(self) -> int:
        return len(self.ticks())

    def ticks(self) -> list[str]:
        """Return the ids of the ticks that the schedule says to have dealt with."""
        schedule = stored(self.app.engine, CLOCK)
        first, last = int(self.first_tick_at), int(schedule.last_at or 0)
        return [tick_id(CLOCK, float(tick)) for tick in range(first, last + 1)]


def count_ends(engine: Engine) -> int:
    return sum(count for queue in engine.queues() for state, count in queue.counts.items() if state.is_final)


def note(folder: Path, name: str, text: str) -> None:
    """Append a line outside the engine."""
    file = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(file, text.encode() + b"\n")
    os.close(file)


# --- what is left of it -------------------------------------------------------------------------
class Findings:
    """What is wrong after the last life."""

    def __init__(self, life: LifeOfWorkflows, dead: set[int]) -> None:
        self.life = life
        self.folder = life.folder
        self.dead = dead
        ids = [job.id for job in life.app.jobs()]
        found = [life.app.engine.get(ids[start : start + 200]) for start in range(0, len(ids), 200)]
        self.records = {record.id: record for page in found for record in page if record is not None}
        self.ledger = Ledger(self.folder / "ledger")
        self.lines = self.ledger.lines()

    def all(self) -> Iterator[str]:
        yield from (f"lost: {job_id}" for job_id in words(self.folder, "lost"))
        yield from self.of_ends()
        yield from self.of_values()
        yield from self.of_steps()
        yield from self.of_ticks()
        yield from self.of_runs()

    def of_ends(self) -> Iterator[str]:
        """Compare how many jobs of each task ended; what a dead attempt wrote has never begun."""
        ends = Counter((job.task, job.state) for job in self.records.values() if job.state.is_final)
        ticks = ends.pop(("ticks", State.SUCCEEDED), 0)
        if ends != ENDS or ticks != self.life.ticked():
            yield f"ended: {ends} and {ticks} ticks"
        started = {line.job_id for line in self.lines}
        for job in self.records.values():
            if not job.state.is_final and (job.fence or job.state is not State.WAITING or job.id in started):
                yield f"came not to rest: {job}"

    def of_values(self) -> Iterator[str]:
        handles = self.life.workflows()
        values: dict[str, object] = {name: self.life.app.job(name).get(timeout=0) for name in VALUES}
        if values != VALUES:
            yield f"values: {values}"
        if [job.get(timeout=0) for job in handles[:2]] != [
            112,
            sum(n + m for n in range(3) for m in range(3)),
        ]:
            yield "the value of the chain or of the chord of chords"
        if [job.state for job in handles[2:]] != [State.CANCELLED] * 3:
            yield "a broken workflow was not cancelled"

    def of_steps(self) -> Iterator[str]:
        """The value that was recorded must be that of the last run."""
        runs: dict[str, list[str]] = defaultdict(list)
        for key, run in (line.rsplit(" ", 1) for line in words(self.folder, "steps")):
            runs[key].append(run)
        recorded = {f"{name}:{key}": value for name in VALUES for key, value in self.noted_steps(name)}
        if recorded.keys() != runs.keys():
            yield f"steps: {recorded.keys()} were recorded, {runs.keys()} ran"
        for key, value in recorded.items():
            if runs[key][-1] != value:
                yield f"step {key} ran again after it was recorded: {value} of {runs[key]}"

    def noted_steps(self, job_id: str) -> Iterator[tuple[str, str]]:
        values = self.life.app.values(self.life.app.engine)
        for step in self.life.app.engine.steps(job_id):
            if step.key.startswith(f"{StepKind.STEP}:"):
                packed = msgspec.msgpack.decode(step.value, type=Note).value
                yield step.key, values.unpack(job_id, packed)[1]

    def of_ticks(self) -> Iterator[str]:
        ticks = {job.id for job in self.records.values() if job.task == "ticks"}
        if ticks != set(self.life.ticks()):
            yield f"ticks: {sorted(ticks)}, the schedule says {self.life.ticks()}"

    def of_runs(self) -> Iterator[str]:
        ended = [job.id for job in self.records.values() if job.state.is_final]
        judgement = judge(self.ledger, attempted=len(ended), acknowledged=ended, jobs=self.records)
        if not judgement.is_clean:
            yield repr(judgement)
        for line in unexplained_in(self.lines, self.records, self.dead):
            if not self.was_unwound_before(line):
                yield f"ran again for no reason: {line}"
        yield from ["fences out of order"] * fences_out_of_order_in(self.lines)

    def was_unwound_before(self, line: Line) -> bool:
        earlier = [one.fence for one in self.lines if one.job_id == line.job_id and one.fence < line.fence]
        return f"{line.job_id} {max(earlier, default=0)}" in words(self.folder, "unwound")
