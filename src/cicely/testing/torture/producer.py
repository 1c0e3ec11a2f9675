"""A producer as a program: it asks for jobs without end, and writes down what was answered.

An id stands in `attempted` before its enqueue is sent, and in `acknowledged` after it was answered;
whoever is killed in between leaves the difference.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from cicely.errors import EngineError
from cicely.testing.torture import app as jobs
from cicely.testing.torture import crowded
from cicely.worker.processes import boottime

_PAGE: Final = 40
_CANCEL_EVERY: Final = 25
#: Of the jobs that run while nothing is done to anybody, so many take so long.
_LONG: Final = 4
_LONG_S: Final = 5.0
#: How often a page of jobs is sent, and how often an enqueue is repeated.
_PAGES: Final = 0.05
_REPEATS: Final = 0.05
#: When the first of the jobs for later is due, all of them sent by then, and how far they lie apart.
_DUE_FIRST_S: Final = 6.0
_DUE_EVERY_S: Final = 0.05


#: So many jobs of one user are sent in a page, and behind them one of somebody else.
CROWD: Final = 60
#: Of so many draws one is a crowd, and so are the first.
_CROWDS: Final = 150


class Order(msgspec.Struct, frozen=True):
    """What a producer is to do: ids begin with `prefix`.

    With `count`, so many short jobs and no more; with `due`, so many that are due one after the other.
    `is_crowded`: also jobs that something holds back.
    """

    folder: str
    prefix: str
    seed: int
    per_second: float = 120.0
    count: int = 0
    due: int = 0
    is_crowded: bool = False


Draw = Callable[[random.Random], tuple[Any, tuple[Any, ...]]]

#: How often each kind of job is drawn, and its arguments.
MIX: Final[list[tuple[int, Draw]]] = [
    (40, lambda r: (jobs.naps, (r.uniform(0, 0.003),))),
    (10, lambda r: (jobs.naps, (r.uniform(0.05, 0.4),))),
    (14, lambda r: (jobs.naps_async, (r.uniform(0, 0.5),))),
    (5, lambda r: (jobs.computes, (r.uniform(0, 0.1),))),
    (2, lambda r: (jobs.holds_gil, (r.uniform(0.1, 0.8),))),
    (6, lambda r: (jobs.naps_alone, (r.uniform(0, 0.1),))),
    (8, lambda r: (jobs.fails_once, ())),
    (5, lambda r: (jobs.walks, (r.randint(1, 10),))),
    (2, lambda r: (jobs.leaves_a_daemon, (r.uniform(0, 0.1),))),
    (8, lambda r: (jobs.naps.options(countdown=r.uniform(0.05, 2)), (0.001,))),
]


#: What is drawn beside them where the engine controls the flow.
CROWDED_MIX: Final[list[tuple[int, Draw]]] = [
    (12, lambda r: (crowded.passes_the_gate, (r.uniform(0, 0.1), f"user-{r.randint(1, 4)}"))),
    (5, lambda r: (crowded.sits_at_the_desk, (r.uniform(0, 0.1),))),
    (8, lambda r: (crowded.uses_a_device, (r.uniform(0, 0.1),))),
]


class Producer:
    """Draws jobs and enqueues them, in ones and in pages."""

    def __init__(self, order: Order) -> None:
        self._random = random.Random(order.seed)  # noqa: S311  (repeatable by its seed)
        self._order = order
        self._number = 0
        self._draws = 0
        self._mix = [*MIX, *CROWDED_MIX] if order.is_crowded else MIX
        self._pause_s = 1 / order.per_second
        folder = Path(order.folder)
        self._attempted = (folder / "attempted").open("a", buffering=1)
        self._acknowledged = (folder / "acknowledged").open("a", buffering=1)
        self._recent: list[str] = []

    def run(self) -> None:
        """Produce what was ordered, or without end."""
        if self._order.count:
            self._flood(self._order.count)
            return
        if self._order.due:
            self._send_for_later(self._order.due)
            return
        while True:
            try:
                asked = self._some()
            except EngineError:
                # Away for longer than a producer waits: whatever it was, it was not acknowledged.
                asked = 1
            time.sleep(self._pause_s * asked * self._random.uniform(0.5, 1.5))

    def _flood(self, count: int) -> None:
        """Ask for short jobs, and for some that outlast every lease."""
        for _ in range(min(_LONG, count)):
            job_id = self._new_id()
            self._note(self._attempted, [job_id])
            jobs.naps.options(id=job_id).delay(_LONG_S)
            self._note(self._acknowledged, [job_id])
        self._page(max(0, count - _LONG))

    def _send_for_later(self, count: int) -> None:
        """Ask for short jobs that are due later, and write down when, on the clock of the ledger."""
        first_at = boottime() + _DUE_FIRST_S
        with (Path(self._order.folder) / "due").open("a", buffering=1) as due:
            for number in range(count):
                job_id = self._new_id()
                self._note(self._attempted, [job_id])
                now = boottime()
                due_at = max(now, first_at + number * _DUE_EVERY_S)
                jobs.naps.options(id=job_id, countdown=due_at - now).delay(0.0)
                self._note(self._acknowledged, [job_id])
                self._note(due, [f"{job_id} {due_at}"])

    def _some(self) -> int:
        self._draws += 1
        if self._order.is_crowded and self._draws % _CROWDS == 1:
            return self._crowd()
        if self._random.random() < _PAGES:
            return self._page(_PAGE)
        task, args = self._draw()
        job_id = self._new_id()
        self._note(self._attempted, [job_id])
        task.options(id=job_id).delay(*args)
        self._note(self._acknowledged, [job_id])
        self._meddle(job_id, task, args)
        return 1

    def _page(self, count: int) -> int:
        ids = [self._new_id() for _ in range(count)]
        unused = iter(ids)
        self._note(self._attempted, ids)
        jobs.naps.delay_many(((0.0,) for _ in ids), ids=lambda row: next(unused))
        self._note(self._acknowledged, ids)
        return count

    def _crowd(self) -> int:
        """Send many jobs of one user, then one of another; write down when that came, and after whom."""
        user = self._new_id()
        ids = [f"{user}-{number:02d}" for number in range(CROWD)]
        unused = iter(ids)
        self._note(self._attempted, ids)
        seconds = (self._random.uniform(0.005, 0.03) for _ in ids)
        crowded.passes_the_gate.delay_many(((one, user) for one in seconds), ids=lambda row: next(unused))
        self._note(self._acknowledged, ids)
        alone = self._new_id()
        self._note(self._attempted, [alone])
        crowded.passes_the_gate.options(id=alone).delay(0.001, alone)
        self._note(self._acknowledged, [alone])
        with (Path(self._order.folder) / "alone").open("a", buffering=1) as file:
            self._note(file, [f"{alone} {user} {boottime()}"])
        return CROWD + 1

    def _meddle(self, job_id: str, task: Any, args: tuple[Any, ...]) -> None:
        """Now and then repeat an enqueue, as after a lost reply, or cancel an earlier job."""
        self._recent.append(job_id)
        if self._random.random() < _REPEATS:
            task.options(id=job_id).delay(*args)
        if len(self._recent) == _CANCEL_EVERY:
            jobs.app.cancel(self._random.choice(self._recent), reason="drawn")
            self._recent.clear()

    def _draw(self) -> tuple[Any, tuple[Any, ...]]:
        [draw] = self._random.choices([draw for _, draw in self._mix], [often for often, _ in self._mix])
        return draw(self._random)

    def _new_id(self) -> str:
        self._number += 1
        return f"{self._order.prefix}-{self._number:06d}"

    def _note(self, file: IO[str], ids: list[str]) -> None:
        file.write("".join(f"{job_id}\n" for job_id in ids))


if __name__ == "__main__":
    Producer(msgspec.json.decode(sys.argv[1], type=Order)).run()
