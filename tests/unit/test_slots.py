"""Attempts in the threads and on the loop of a child end once, with an outcome, whatever happens."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator

import msgspec
import pytest

from cicely.core.codec import Codec
from cicely.core.intake import Turns
from cicely.core.job import Kind, NewJob
from cicely.core.outcome import ErrorRecord
from cicely.core.retry import Retry, Timeout
from cicely.core.states import State
from cicely.core.task import Limits, Task, TaskOptions
from cicely.engines.contract import Session
from cicely.engines.memory import MemoryEngine
from cicely.errors import Cancelled
from cicely.testing.fleet import wait_for
from cicely.values import Values
from cicely.worker import exchange, slots
from cicely.worker.board import Board
from cicely.worker.context import current, encoded_progress
from cicely.worker.exchange import Exchange
from cicely.worker.handover import STOP, Handover
from cicely.worker.loop import Loop
from cicely.worker.pool import Pool
from cicely.worker.processes import boottime
from cicely.worker.slots import Slot
from cicely.worker.workshop import Workshop

VALUES = Values(Codec(), None)
COROUTINES = 2


class NobodyIsolated:
    """The side of a child where attempts run in processes of their own; here none does."""

    def interrupt(self, *where: object) -> None:
        """There is nobody."""


class Bench:
    """A child's exchange, one slot in a thread and a loop, over an engine in memory."""

    def __init__(self) -> None:
        self.engine = MemoryEngine()
        self.engine.join(Session(id="a", worker="a", tasks=frozenset({"t"})))
        self.task = Task("t", print, TaskOptions())
        self.board = Board.create(threads=1, coroutines=COROUTINES)
        self.board.deadline_at = boottime() + 60
        self.plain = Pool((Kind.SYNC,), 1, _handover())
        self.waiting = Pool((Kind.ASYNC,), COROUTINES, _handover())
        self.exchange = Exchange(
            self.engine,
            "a",
            board=self.board,
            pools=(self.plain, self.waiting),
            turns=Turns([[("default", 1.0)]]),
            start_s=10.0,
            max_jobs=0,
            on_lost=lambda tokens: None,
        )
        shop = Workshop(self, VALUES, self.exchange, self.board, NobodyIsolated(), os.eventfd(0))
        self.slot = Slot(shop, self.plain, 0)
        self.loop = Loop(shop, self.waiting, 1)
        self._threads = [
            threading.Thread(target=run, daemon=True)
            for run in (self.exchange.run, self.slot.serve, self.loop.serve)
        ]

    def resolve(self, task_name: str) -> Task:
        return self.task

    def start(self, function: Callable[[], object], **options: object) -> None:
        self.task = Task("t", function, TaskOptions(**options))
        for thread in self._threads:
            thread.start()

    def put(self, *, kind: Kind = Kind.SYNC, count: int = 1) -> list[str]:
        ids = [os.urandom(8).hex() for _ in range(count)]
        body = VALUES.pack_call("job", (), kwargs={}, where="test")
        self.engine.enqueue([NewJob(id=id_, task="t", kind=kind, queue="default", body=body) for id_ in ids])
        return ids

    def ended(self, ids: list[str]):
        def all_final():
            records = self.engine.get(ids)
            return records if all(record.state.is_final for record in records) else []

        return wait_for(all_final, within_s=10, what="the ends of all jobs")

    def close(self) -> None:
        self.exchange.drain()
        for pool in (self.plain, self.waiting):
            pool.handover.put([STOP])
        for thread in self._threads:
            if thread.ident:
                thread.join(5)


class Clock:
    """A clock that stands still unless it is advanced."""

    def __init__(self) -> None:
        self.now = boottime()

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def _handover() -> Handover:
    return Handover(*os.pipe2(os.O_NONBLOCK))


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def broken(attempt: int) -> float:
    raise RuntimeError(f"no wait after attempt {attempt}")


@pytest.mark.parametrize("kind", [Kind.SYNC, Kind.ASYNC])
def test_a_job_whose_backoff_is_broken_runs_once_and_fails(bench, kind):
    runs = []

    def plain():
        runs.append(1)
        raise ValueError

    async def waiting():
        plain()

    bench.start(plain if kind is Kind.SYNC else waiting, retry=Retry(backoff=broken))

    [record] = bench.ended(bench.put(kind=kind))

    assert (record.state, len(runs)) == (State.FAILED, 1)
    assert "no wait after attempt 1" in ErrorRecord.decoded(record.error).message


@pytest.mark.parametrize("kind", [Kind.SYNC, Kind.ASYNC])
def test_a_limited_job_whose_backoff_is_broken_fails_before_it_starts(bench, kind):
    async def waiting():
        return 1

    options = {"retry": Retry(on=Timeout, backoff=broken), "limits": Limits(timeout_s=30)}
    bench.start(waiting if kind is Kind.ASYNC else lambda: 1, **options)

    ends = bench.ended(bench.put(kind=kind, count=2))

    assert [record.state for record in ends] == [State.FAILED] * 2


def test_a_job_of_a_module_that_exits_when_imported_fails_and_the_slot_lives(bench):
    def resolve(task_name):
        raise SystemExit(3)

    bench.resolve = resolve
    bench.start(print)

    ends = bench.ended(bench.put(count=2))

    assert [record.state for record in ends] == [State.FAILED] * 2


def test_a_place_is_taken_from_the_moment_a_claim_begins(bench):
    bench.put(kind=Kind.ASYNC, count=COROUTINES)
    feeder = threading.Thread(target=bench.exchange.run, daemon=True)
    feeder.start()
    tokens = wait_for(
        lambda: list(bench.waiting.waiting) if len(bench.waiting.waiting) == COROUTINES else [],
        within_s=5,
    )

    for place, token in enumerate(tokens):
        assert bench.exchange.begin(bench.waiting, token, place) is not None

    assert bench.waiting.active == COROUTINES


def test_the_wait_for_outcomes_to_leave_does_not_make_a_short_task_a_long_one(bench, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(exchange, "boottime", clock)
    monkeypatch.setattr(slots, "boottime", clock)
    monkeypatch.setattr(bench.exchange, "must_flush_before", lambda task: True)
    monkeypatch.setattr(bench.exchange, "flush", lambda: clock.advance(1.0))
    bench.board.deadline_at = clock() + 60
    bench.start(lambda: None)

    bench.ended(bench.put())

    wait_for(lambda: bench.exchange.paces.is_short("t"), within_s=5)


def test_what_a_lost_attempt_returns_is_not_settled(bench):
    begun = threading.Event()
    go_on = threading.Event()

    def stubborn():
        begun.set()
        with contextlib.suppress(Cancelled):
            go_on.wait(5)
        return 1

    bench.start(stubborn)
    [job_id] = bench.put()
    begun.wait(5)

    bench.slot.lose(bench.slot.token)
    go_on.set()

    wait_for(lambda: not bench.plain.active, within_s=5)
    time.sleep(0.1)
    [record] = bench.engine.get([job_id])
    assert record.state is State.RUNNING


def test_an_interrupt_from_another_thread_never_lands_outside_its_job(bench, monkeypatch):
    begun = threading.Event()
    may_end = threading.Event()
    raise_in = slots._raise_in

    def raise_late(thread, error):
        if error is not None:
            may_end.set()
            time.sleep(0.2)
        raise_in(thread, error)

    def ends_just_now():
        begun.set()
        may_end.wait(5)

    monkeypatch.setattr(slots, "_raise_in", raise_late)
    bench.start(ends_just_now)
    [first] = bench.put()
    begun.wait(5)

    bench.slot.interrupt(bench.slot.token, Cancelled("it was cancelled"))

    ends = bench.ended([first, *bench.put()])
    assert [record.state for record in ends] == [State.CANCELLED, State.SUCCEEDED]


def test_a_cancellation_before_the_job_can_hear_it_is_heard_when_it_starts(bench):
    def never():
        raise AssertionError(current().job_id)

    start = bench.board.start

    def start_cancelled(slot, token, at, **name):
        start(slot, token, at, **name)
        bench.slot.interrupt(token, Cancelled("it was cancelled"))

    bench.board.start = start_cancelled
    bench.start(never)

    [record] = bench.ended(bench.put())

    assert record.state is State.CANCELLED


class Index:
    """A number that is one only when asked, as NumPy's are."""

    def __float__(self) -> float:
        return 3.0


@pytest.mark.parametrize("done", [3, 3.0, Index(), True, 1 << 70])
def test_progress_takes_whatever_counts_as_a_number(done):
    shown = msgspec.msgpack.decode(encoded_progress(done, done, "half"))

    assert shown["done"] == shown["total"] == float(done)


def test_progress_takes_any_text_and_keeps_its_start():
    shown = msgspec.msgpack.decode(encoded_progress(1, None, "\ud800" + 1000 * "x"))

    assert shown["total"] is None
    assert shown["message"].startswith("\\ud800xxx")
    assert len(shown["message"]) < 600
