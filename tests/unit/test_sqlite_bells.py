"""Bells between processes: who is rung, who is not, and what becomes of slots whose owner died."""

import os
import resource
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cicely.core.edge import Edge
from cicely.core.job import Kind, NewJob
from cicely.core.outcome import Succeeded
from cicely.engines.contract import Ask, Bell, Demand, Session
from cicely.engines.sqlite import bells as bells_module
from cicely.engines.sqlite import claiming, enqueueing, sessions
from cicely.engines.sqlite.bells import FREE, SESSION_ARMED, SLOTS, Bells, SqliteBell
from cicely.engines.sqlite.commits import _Call
from cicely.engines.sqlite.engine import SqliteEngine

BOUND_S = 10.0


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SqliteEngine]:
    engine = SqliteEngine(str(tmp_path / "jobs.db"), durability="process")
    engine.open()
    yield engine
    engine.close()


def _job(job_id: str, **options) -> NewJob:
    return NewJob(id=job_id, **{"task": "work", "kind": Kind.SYNC, "queue": "main", **options})


def _demand(count: int = 1) -> Demand:
    return Demand(os.urandom(8), ("main",), (Ask((Kind.SYNC,), count),))


@contextmanager
def _waiting(engine: SqliteEngine, session_id: str, **facts) -> Iterator[Bell]:
    """A session that has joined and waits with its bell armed."""
    session = Session(id=session_id, worker="boss", **{"tasks": frozenset({"work"}), **facts})
    engine.join(session)
    bell = engine.doorbell(session_id)
    bell.arm()
    yield bell
    bell.close()


def _rings(bell: Bell, timeout_s: float = 0.0) -> bool:
    return bool(select.select([bell.fileno()], [], [], timeout_s)[0])


def test_one_new_job_wakes_one_session(engine):
    with _waiting(engine, "s") as first, _waiting(engine, "t") as second:
        engine.enqueue([_job("a")])

        assert _rings(first)
        assert not _rings(second)


def test_a_session_that_cannot_run_the_job_is_not_woken(engine):
    with (
        _waiting(engine, "supervisor", tasks=frozenset()) as supervisor,
        _waiting(engine, "other", tasks=frozenset({"other"})) as other,
        _waiting(engine, "able") as able,
    ):
        engine.enqueue([_job("a")])

        assert (_rings(supervisor), _rings(other), _rings(able)) == (False, False, True)


def test_a_session_of_other_queues_is_not_woken(engine):
    with (
        _waiting(engine, "s", queues=("side",)) as elsewhere,
        _waiting(engine, "t", queues=("main", "side")) as here,
    ):
        engine.enqueue([_job("a")])

        assert (_rings(elsewhere), _rings(here)) == (False, True)


def test_work_in_a_paused_queue_wakes_nobody(engine):
    engine.pause("main")
    with _waiting(engine, "s") as bell:
        engine.enqueue([_job("a")])

        assert not _rings(bell)


def test_a_job_that_is_due_soon_wakes_a_session_and_a_later_one_does_not(engine):
    with _waiting(engine, "s") as bell:
        engine.enqueue([_job("a", delay_s=60)])
        assert not _rings(bell)

        engine.enqueue([_job("b", delay_s=1)])
        assert _rings(bell)


def test_a_session_that_takes_nothing_passes_the_ring_on_once(engine):
    # All fit by what they joined with, but their asks have no room for this kind.
    with _waiting(engine, "s") as first, _waiting(engine, "t") as second, _waiting(engine, "u") as third:
        engine.enqueue([_job("a", kind=Kind.ISOLATED)])
        rounds = 0
        for name, bell in [("s", first), ("t", second), ("u", third)] * 3:
            if _rings(bell):
                rounds += 1
                bell.disarm()
                bell.arm()
                engine.claim(name, _demand())

        assert rounds == 3


def test_a_claimers_own_bell_stays_silent(engine):
    engine.enqueue([_job("a"), _job("b")])
    with _waiting(engine, "s") as bell:
        engine.claim("s", _demand())

        assert not _rings(bell)


def test_only_those_who_wait_for_the_job_that_ended_are_woken(engine):
    engine.join(Session(id="s", worker="s", tasks=frozenset({"work"})))
    engine.enqueue([_job("a")])
    [claim] = engine.claim("s", _demand()).claims
    mine, others = engine.result_bell(["a"]), engine.result_bell(["b", "c"])
    mine.arm()
    others.arm()

    engine.settle("s", [Succeeded(claim.token)])

    assert (_rings(mine), _rings(others)) == (True, False)
    mine.close()
    others.close()


def test_one_bell_can_wait_for_thousands_of_jobs(engine):
    engine.enqueue([_job(f"j{i}") for i in range(5_000)])
    bell = engine.result_bell([f"j{i}" for i in range(5_000)])
    bell.arm()

    engine.steer("cancel", ["j4711"])

    assert _rings(bell)
    bell.close()


def test_a_ring_crosses_processes(engine, tmp_path):
    with _waiting(engine, "s") as bell:
        pid = os.fork()
        if pid == 0:
            engine.enqueue([_job("a")])
            os._exit(0)

        assert _rings(bell, BOUND_S)
        os.waitpid(pid, 0)


def test_the_slot_of_a_process_that_died_is_freed_and_the_next_one_rung(engine):
    engine.join(Session(id="dead", worker="w", tasks=frozenset({"work"})))
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        engine.doorbell("dead").arm()
        os.write(write_fd, b"!")
        signal.pause()
    os.read(read_fd, 1)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)

    with _waiting(engine, "alive") as bell:
        engine.enqueue([_job("a")])

        assert _rings(bell, BOUND_S)
    assert engine._opened().bells.armed(SESSION_ARMED) == []
    os.close(read_fd)
    os.close(write_fd)


def test_slots_of_the_dead_are_taken_when_no_other_is_free(tmp_path, monkeypatch):
    bells = Bells(str(tmp_path / "bells"))
    ears = []
    for index in range(SLOTS):
        taken = bells.take(f"s{index}", ())
        assert taken is not None
        ears.append(taken[1]) if index == 7 else taken[1].close()

    again = bells.take("again", ())

    assert again is not None
    assert again[0] == 0
    again[1].close()
    ears[0].close()
    bells.close()


def test_a_bell_without_a_slot_asks_its_owner_to_poll(tmp_path, monkeypatch):
    monkeypatch.setattr(bells_module, "_here", lambda: 0)
    bells = Bells(str(tmp_path / "bells"))

    bell = SqliteBell(bells, "s")
    bell.arm()
    bell.disarm()

    assert bell.fileno() == -1
    bell.close()
    bells.close()


def test_another_machines_slots_are_neither_rung_nor_freed(engine, monkeypatch):
    with _waiting(engine, "s") as bell:
        here = bells_module._here()
        monkeypatch.setattr(bells_module, "_here", lambda: here + 1)
        elsewhere = SqliteEngine(engine.facts().address, durability="process")

        elsewhere.enqueue([_job("a")])

        assert not _rings(bell)
        assert len(engine._opened().bells.armed(SESSION_ARMED)) == 1
        elsewhere.close()


def test_a_garbled_bells_file_harms_nobody(engine, tmp_path):
    with open(tmp_path / "jobs.db-bells", "r+b") as file:
        file.write(bytes([SESSION_ARMED]) * 500 + os.urandom(50_000))

    assert engine.enqueue([_job("a")])[0].fresh


def test_closing_a_bell_frees_its_slot(engine):
    bells = engine._opened().bells
    with _waiting(engine, "s") as bell:
        index = bell.index
    assert os.pread(bells._file, 1, index) == bytes([FREE])


def test_slots_of_an_earlier_boot_are_taken_when_no_other_is_free(tmp_path, monkeypatch):
    here = bells_module._here()
    monkeypatch.setattr(bells_module, "_here", lambda: here ^ 1 << 40)
    before = Bells(str(tmp_path / "bells"))
    ears = [before.take(f"s{index}", ()) for index in range(SLOTS)]
    monkeypatch.undo()
    bells = Bells(str(tmp_path / "bells"))

    taken = bells.take("s", ())

    assert taken is not None
    for one in (taken, *filter(None, ears)):
        one[1].close()
    before.close()
    bells.close()


def test_a_process_that_waits_for_very_many_results_leaves_slots_to_others(engine):
    waiting = [engine.result_bell([f"j{i}"]) for i in range(200)]

    deaf = [bell for bell in waiting if bell.fileno() < 0]

    assert len(deaf) > 100
    for bell in waiting:
        bell.close()
    again = engine.result_bell(["a"])
    assert again.fileno() >= 0
    again.close()


def test_a_process_with_too_many_open_files_waits_without_a_bell(engine):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
    try:
        bells = [engine.doorbell(f"s{i}") for i in range(64)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    assert bells[-1].fileno() == -1
    for bell in bells:
        bell.close()


def _in_one_commit(engine: SqliteEngine, *calls) -> None:
    """Carry out several verbs in one group commit, in this order."""
    commits = engine._opened().commits
    *first, last = calls
    commits._pending.extend(_Call(*call) for call in first)
    commits.run(*last)


def _claim_by(session_id: str):
    def work(txn):
        return claiming.claim(txn, sessions.member_of(txn, session_id), _demand())

    return "claim", work


def test_a_job_that_comes_after_an_empty_claim_in_one_commit_wakes_whoever_waits(engine):
    with _waiting(engine, "before") as before, _waiting(engine, "claimer") as claimer:
        enqueue = ("enqueue", lambda txn: enqueueing.enqueue(txn, [_job("a")]))

        _in_one_commit(engine, _claim_by("claimer"), enqueue)

        assert _rings(before) or _rings(claimer)


def test_the_claimer_itself_is_woken_for_a_job_that_came_after_its_claim(engine):
    with _waiting(engine, "claimer") as claimer:
        enqueue = ("enqueue", lambda txn: enqueueing.enqueue(txn, [_job("a")]))

        _in_one_commit(engine, _claim_by("claimer"), enqueue)

        assert _rings(claimer)


def test_a_job_before_an_empty_claim_in_one_commit_wakes_those_before_the_claimer(engine):
    other = frozenset({"other"})
    with _waiting(engine, "able", tasks=other) as able, _waiting(engine, "claimer"):
        enqueue = ("enqueue", lambda txn: enqueueing.enqueue(txn, [_job("a", task="other")]))

        _in_one_commit(engine, enqueue, _claim_by("claimer"))

        assert _rings(able)


def test_two_empty_claims_in_one_commit_skip_nobody_between_them(engine):
    with (
        _waiting(engine, "first"),
        _waiting(engine, "between", tasks=frozenset({"other"})) as between,
        _waiting(engine, "last"),
    ):
        between.disarm()
        engine.enqueue([_job("a", task="other")])
        between.arm()

        _in_one_commit(engine, _claim_by("first"), _claim_by("last"))

        assert _rings(between)


def test_a_job_that_a_settle_releases_wakes_whoever_waits(engine):
    with _waiting(engine, "idle", tasks=frozenset({"other"})) as idle:
        engine.join(Session(id="s", worker="boss", tasks=frozenset({"work"})))
        engine.enqueue([_job("a"), _job("b", task="other")], [Edge("a", "b")])
        [claim] = engine.claim("s", _demand()).claims
        assert not _rings(idle)

        engine.settle("s", [Succeeded(claim.token)], _demand())

        assert _rings(idle)
