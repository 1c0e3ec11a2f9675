"""Calls that an engine did not answer are told to it when it is back, whoever called: availability asks."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from cicely import Cicely, EngineUnavailable
from cicely.core.rollup import Word
from cicely.engines.contract import Ask, Demand, Session
from cicely.engines.memory import MemoryEngine
from cicely.testing.fleet import wait_for
from cicely.worker.clerk import Clerk
from cicely.worker.desk import Desk
from cicely.worker.keeper import Keeper

DEMAND = Demand(b"request1", ("default",), (Ask((), 1),))


class Away(MemoryEngine):
    """Answers nothing but reports so many times, and no report as often as it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.calls_to_fail = self.reports_to_fail = 0

    def _fail(self):
        if self.calls_to_fail:
            self.calls_to_fail -= 1
            raise EngineUnavailable("away")

    def enqueue(self, *given):
        self._fail()
        return super().enqueue(*given)

    def get(self, job_ids):
        self._fail()
        return super().get(job_ids)

    def claim(self, session_id, demand):
        self._fail()
        return super().claim(session_id, demand)

    def report(self, counts):
        if self.reports_to_fail:
            self.reports_to_fail -= 1
            raise EngineUnavailable("away again")
        super().report(counts)

    @property
    def failed_calls(self) -> int:
        cells = self.rollups(0, 1 << 40).cells
        return sum(cell.count for cell in cells if cell.word is Word.ENGINE_ERRORS)


@pytest.fixture
def engine() -> Away:
    return Away()


@pytest.fixture
def app(engine) -> Iterator[Cicely]:
    app = Cicely("tests")
    app.use(engine)
    yield app
    app.close()


@pytest.fixture
def task(app):
    return app.task(name="t")(lambda: None)


def test_a_producer_tells_of_enqueues_that_had_to_be_repeated(engine, task):
    engine.calls_to_fail = 2

    task.delay()

    assert engine.failed_calls == 2


def test_so_does_whoever_only_looks(app, engine, task):
    job = task.delay()
    engine.calls_to_fail = 1

    assert job.state == "ready"
    assert engine.failed_calls == 1


def test_so_does_a_receiver_of_messages(app, engine):
    engine.calls_to_fail = 1

    assert app.queue("raw").receive(wait=0) == []
    assert engine.failed_calls == 1


def test_a_call_that_was_given_up_is_told_of_with_the_next_one(engine, task, monkeypatch):
    monkeypatch.setattr("cicely.connection.PATIENCE_S", 0.0)
    engine.calls_to_fail = 1
    with pytest.raises(EngineUnavailable):
        task.delay()

    task.delay()

    assert engine.failed_calls == 1


def test_a_report_that_fails_is_no_failure_of_the_caller_and_is_made_up_for(engine, task):
    engine.calls_to_fail = engine.reports_to_fail = 1
    task.delay()

    task.delay()
    task.delay()

    assert engine.failed_calls == 1


def test_another_engine_is_not_told_of_it(app, engine, task, monkeypatch):
    monkeypatch.setattr("cicely.connection.PATIENCE_S", 0.0)
    engine.calls_to_fail = 1
    with pytest.raises(EngineUnavailable):
        task.delay()
    other = Away()
    app.use(other)

    task.delay()

    assert other.failed_calls == 0


def test_a_worker_reports_calls_of_its_children_that_failed(engine):
    engine.join(Session(id="w", worker="w", lease_s=3.0))
    keeper = Keeper(engine, "w", lease_s=3.0)
    ours, theirs = socket.socketpair()
    ring_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    clerk = Clerk(engine, "c", theirs, os.dup(ring_fd), keeper.note_failure)
    clerk.start()
    desk = Desk(ours, ring_fd)
    desk.join(Session(id="c", worker="w"))
    engine.calls_to_fail = 1
    with pytest.raises(EngineUnavailable):
        desk.claim("c", DEMAND)
    ours.close()
    clerk.finish(5.0)
    os.close(ring_fd)

    keeper.start()
    keeper.finish(timeout_s=5)

    assert wait_for(lambda: engine.failed_calls == 1, within_s=5)
