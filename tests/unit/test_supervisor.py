"""What a supervisor does when the zygote, the engine or a child behaves badly. No process is started."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import pytest

from cicely.core.job import Kind, NewJob, Tallies
from cicely.core.schedule import Plan, encode
from cicely.core.states import State
from cicely.core.when import every
from cicely.engines.contract import Ask, Demand, Session
from cicely.engines.memory import MemoryEngine
from cicely.worker.board import Board, Running
from cicely.worker.control import Begin, CannotWork, Control, Joined
from cicely.worker.line import Gone
from cicely.worker.nursery import ZygoteDied, ZygoteStalled
from cicely.worker.options import WorkerOptions
from cicely.worker.processes import boottime
from cicely.worker.supervisor import Supervisor


class QuietZygote:
    """A zygote that forks nothing and has the worker stopped once it was spoken to so often."""

    def __init__(self, *, stop_after: int = 1) -> None:
        self.manifest = {"url": "memory:", "queues": {"default": 1.0}}
        self.threads: list[str] = []
        self.deadlines = 0
        self.stop_after = stop_after
        self.end = os.eventfd(0)

    def fileno(self) -> int:
        return self.end

    def events(self) -> list[Any]:
        return []

    def hold_until(self, deadline_at: float) -> None:
        self.deadlines += 1
        if self.deadlines == self.stop_after:
            os.kill(os.getpid(), signal.SIGTERM)

    def kill(self, pid: int) -> None:
        raise AssertionError(pid)

    def close(self) -> None:
        os.close(self.end)


class DeadZygote(QuietZygote):
    """A zygote whose end shows when it is spoken to."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def hold_until(self, deadline_at: float) -> None:
        raise self.error


class ActedChildren(QuietZygote):
    """A zygote whose children are acted, one after the other, by these functions.

    A child ends when it is killed, and without that when its function returned its exit code.
    """

    def __init__(self, *acts: Callable[[Any, Sequence[int]], int | None]) -> None:
        super().__init__(stop_after=0)
        self.acts = list(acts)
        self.killed: list[int] = []
        self.forked = 0
        self.news: list[Gone] = []

    def fork(self, role: str, spec: bytes, *, fds: Sequence[int]) -> int:
        self.forked += 1
        status = self.acts.pop(0)(msgspec.msgpack.decode(spec, type=Begin), fds)
        if status is not None:
            self.news.append(Gone(self.forked, status))
        if not self.acts:
            os.kill(os.getpid(), signal.SIGTERM)
        return self.forked

    def kill(self, pid: int) -> None:
        self.killed.append(pid)
        self.news.append(Gone(pid, -signal.SIGKILL))

    def events(self) -> list[Any]:
        news, self.news = self.news, []
        return news


def control(fds: Sequence[int]) -> socket.socket:
    return socket.socket(fileno=os.dup(fds[5]))


class Worker(Supervisor):
    """A supervisor over an engine in memory, with these zygotes, one by one."""

    def __init__(self, *zygotes: QuietZygote, processes: int = 0) -> None:
        options = WorkerOptions(
            target="a:b", url="memory:", processes=processes, threads=2, coroutines=0, lease_s=1.0
        )
        super().__init__(options)
        self.zygotes = list(zygotes)
        self.engine = MemoryEngine()

    def _start_zygote(self) -> Any:
        return self.zygotes.pop(0)

    def _open_engine(self) -> Any:
        self.engine.join(self._session())
        return self.engine


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)}
    yield
    signal.set_wakeup_fd(-1)
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.mark.parametrize("error", [ZygoteDied("it is gone"), ZygoteStalled("it reads nothing")])
def test_a_zygote_that_fails_while_it_is_spoken_to_is_replaced(error):
    last = QuietZygote()
    worker = Worker(DeadZygote(error), last)

    assert worker.run() == 0
    assert worker.zygotes == []
    assert last.deadlines >= 1


def test_the_schedules_of_the_code_are_put_into_the_engine_also_by_a_zygote_that_replaced_another():
    job = NewJob(id="", task="work", kind=Kind.SYNC, queue="default")
    first, second = DeadZygote(ZygoteDied("it is gone")), QuietZygote()
    first.manifest["schedules"] = {"old": encode(Plan(when=every("1h"), job=job))}
    second.manifest["schedules"] = {"new": encode(Plan(when=every("1h"), job=job))}
    worker = Worker(first, second)

    assert worker.run() == 0

    assert [schedule.name for schedule in worker.engine.schedules()] == ["new", "old"]
    assert [schedule.paused for schedule in worker.engine.schedules()] == [False, False]


def test_a_worker_that_the_engine_gave_up_works_on_under_another_id():
    class Rescued(QuietZygote):
        def hold_until(self, deadline_at: float) -> None:
            if self.deadlines == 0:
                worker.engine.retire(worker.id)
            super().hold_until(deadline_at)
            known.append([record.session.id for record in worker.engine.sessions()])

    known: list[list[str]] = []
    worker = Worker(Rescued(stop_after=6))
    first = worker.id

    assert worker.run() == 0
    assert worker.id != first
    assert known[-1] == [worker.id]


def cannot_work(begin: Begin, fds: Sequence[int]) -> int:
    Control(control(fds)).say(CannotWork("the disk is full"))
    return 0


def joins_and_ends(begin: Begin, fds: Sequence[int]) -> int:
    Control(control(fds)).say(Joined())
    return 0


def test_a_worker_that_recovered_ends_well():
    assert Worker(ActedChildren(cannot_work, joins_and_ends), processes=1).run() == 0


def test_a_worker_that_could_not_work_to_the_end_says_so():
    assert Worker(ActedChildren(joins_and_ends, cannot_work), processes=1).run() == 1


def test_a_child_that_says_what_cannot_be_read_is_killed():
    def babbles(begin: Begin, fds: Sequence[int]) -> None:
        control(fds).send(b"\xc1 what is this")

    zygote = ActedChildren(babbles)

    assert Worker(zygote, processes=1).run() == 0
    assert zygote.killed == [1]


def test_the_neighbours_of_a_job_over_its_limit_go_back_free_and_expire_no_more():
    def overruns(begin: Begin, fds: Sequence[int]) -> None:
        engine = worker.engine
        engine.join(Session(id=begin.session_id, worker=begin.worker_id, tasks=frozenset({"t"})))
        demand = Demand(b"request1", ("default",), (Ask((Kind.SYNC,), 2),))
        late, neighbour = engine.claim(begin.session_id, demand).claims
        board = Board(os.dup(fds[0]), threads=2, coroutines=0)
        board.hold([late.token, neighbour.token])
        now = boottime()
        board.start(1, neighbour.token, now)
        board.start_limited(Running(slot=0, token=late.token, started_at=now - 2, deadline_at=now - 1))
        Control(control(fds)).say(Joined())

    worker = Worker(ActedChildren(overruns), processes=1)
    jobs = [NewJob(id=f"j{n}", task="t", kind=Kind.SYNC, queue="default", expires_s=60) for n in (1, 2)]
    worker.engine.enqueue(jobs)

    assert worker.run() == 0

    late, neighbour = worker.engine.get(["j1", "j2"])
    assert (late.state, late.reason) == (State.FAILED, "timeout")
    assert (neighbour.state, neighbour.tallies) == (State.READY, Tallies())
    assert neighbour.expires_at is None
