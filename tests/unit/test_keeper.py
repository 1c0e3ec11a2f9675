"""A worker's keeper: it registers anew after a rescue, buries strangers, and kills nobody who lives."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from cicely.engines.contract import Session, SessionRecord
from cicely.engines.memory import MemoryEngine
from cicely.errors import SessionClosed
from cicely.testing.fleet import wait_for
from cicely.worker.keeper import Keeper
from cicely.worker.processes import MARK_VARIABLE, is_alive, start_time, this_host

LEASE_S = 0.6


def supervisor(name: str) -> Session:
    return here(name, worker=name, pid=os.getpid())


def here(name: str, *, worker: str, pid: int, started: int | None = None, mark: str = "") -> Session:
    return Session(
        id=name,
        worker=worker,
        lease_s=LEASE_S,
        host=this_host(),
        pid=pid,
        start_time=started or start_time(pid) or 0,
        mark=mark,
    )


@pytest.fixture
def start() -> Iterator[Callable[[MemoryEngine], Keeper]]:
    """Return a function that joins and starts the keeper of worker w1."""
    keepers: list[Keeper] = []

    def started(engine: MemoryEngine) -> Keeper:
        engine.join(supervisor("w1"))
        keepers.append(Keeper(engine, "w1", lease_s=LEASE_S))
        keepers[0].start()
        return keepers[0]

    yield started
    keepers[0].finish(timeout_s=5)


def beat_of(engine: MemoryEngine, session_id: str) -> int | None:
    return next((r.beat for r in engine.sessions() if r.session.id == session_id), None)


def names(engine: MemoryEngine) -> set[str]:
    return {record.session.id for record in engine.sessions()}


def test_a_worker_that_was_rescued_registers_anew_and_its_calls_go_on(start):
    engine = MemoryEngine()
    keeper = start(engine)
    wait_for(lambda: beat_of(engine, "w1"), within_s=5)
    engine.retire("w1")

    keeper.start_over(supervisor("w2"))
    called: list[int] = []
    keeper.post(lambda: called.append(1))

    assert wait_for(lambda: called, within_s=5) == [1]
    assert wait_for(lambda: beat_of(engine, "w2"), within_s=5)


def test_a_call_for_a_closed_session_is_dropped_and_holds_nothing_up(start):
    keeper = start(MemoryEngine())
    tries: list[str] = []

    def refused() -> None:
        tries.append("refused")
        raise SessionClosed("session x was retired")

    keeper.post(refused)
    keeper.post(lambda: tries.append("next"))

    assert wait_for(lambda: tries[-1:] == ["next"] and tries, within_s=5) == ["refused", "next"]


def test_a_dead_child_that_nobody_knows_is_retired(start):
    engine = MemoryEngine()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as late:
        engine.join(here("late", worker="w1", pid=late.pid))
        start(engine)
        time.sleep(LEASE_S)
        assert "late" in names(engine)

        late.communicate(b"\n")

    wait_for(lambda: "late" not in names(engine), within_s=5)


class BeatsAgainAtLast(MemoryEngine):
    """Another worker was away for a lease and beats again, just after somebody looked at it."""

    def __init__(self) -> None:
        super().__init__()
        self.away_until = time.monotonic() + LEASE_S

    def sessions(self) -> list[SessionRecord]:
        records = super().sessions()
        if time.monotonic() > self.away_until:
            self.beat({"other": ()}, number=int(time.monotonic() * 1000))
        return records


def test_a_worker_that_beats_again_before_it_is_killed_is_not_killed(start):
    engine = BeatsAgainAtLast()
    mark = os.urandom(8).hex()
    other = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={**os.environ, MARK_VARIABLE: mark}
    )
    try:
        engine.join(here("other", worker="other", pid=other.pid, mark=mark))
        start(engine)

        time.sleep(3 * LEASE_S)

        assert other.poll() is None
        assert is_alive(other.pid, start_time(other.pid) or 0)
        assert "other" in names(engine)
    finally:
        other.kill()
        other.communicate()


def test_a_silent_worker_is_rescued(start):
    engine = MemoryEngine()
    engine.join(Session(id="far", worker="far", lease_s=LEASE_S))
    start(engine)

    wait_for(lambda: "far" not in names(engine), within_s=5)
