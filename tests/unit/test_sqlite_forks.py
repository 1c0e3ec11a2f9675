"""Processes: a forked child opens its own connection, and many processes may write at once."""

import os
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import apsw
import pytest

from cicely.core.job import Filter, Kind, NewJob
from cicely.engines.contract import Ask, Demand, Session
from cicely.engines.sqlite import forks
from cicely.engines.sqlite.engine import SqliteEngine
from cicely.errors import EngineError


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "jobs.db")


def _job(job_id: str) -> NewJob:
    return NewJob(id=job_id, task="work", kind=Kind.SYNC, queue="main")


def _forked(act) -> int:
    """Run `act` in a forked child; return its pid."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        act()
        status = 0
    except BaseException:  # noqa: BLE001  (the child must end here, whatever happens)
        traceback.print_exc()
    finally:
        os._exit(status)


def _all_ended_well(pids: list[int]) -> bool:
    return all(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0 for pid in pids)


def test_a_forked_child_uses_the_engine_that_its_parent_opened(path):
    engine = SqliteEngine(path)
    engine.enqueue([_job("parent")])

    child = _forked(lambda: engine.enqueue([_job("child")]))

    assert _all_ended_well([child])
    engine.enqueue([_job("parent again")])
    assert [job.id for job in engine.find(Filter()).jobs] == ["parent again", "child", "parent"]
    engine.close()


def test_a_child_that_closes_its_copy_leaves_the_parents_lock_alone(path):
    engine = SqliteEngine(path)
    engine.enqueue([_job("a")])

    child = _forked(engine.close)

    assert _all_ended_well([child])
    assert engine.enqueue([_job("b")])[0].fresh
    engine.close()


def test_a_child_that_is_forked_under_the_lock_does_not_keep_it(path):
    engine = SqliteEngine(path, busy_timeout_s=5.0)
    engine.open()
    turnstile = engine._opened().turnstile
    turnstile.acquire(1.0)
    read_fd, write_fd = os.pipe()
    child = _forked(lambda: os.read(read_fd, 1))

    turnstile.release()
    other = SqliteEngine(path, busy_timeout_s=5.0)

    assert other.enqueue([_job("a")])[0].fresh
    os.write(write_fd, b"!")
    assert _all_ended_well([child])
    for engine_of_mine in (engine, other):
        engine_of_mine.close()
    os.close(read_fd)
    os.close(write_fd)


def test_eight_processes_that_make_the_file_and_write_at_once_lose_nothing(path):
    def produce(k: int) -> None:
        engine = SqliteEngine(path, durability="process", busy_timeout_s=20.0)
        for i in range(1_000):
            assert engine.enqueue([_job(f"{k}-{i}")])[0].fresh
        engine.close()

    children = [_forked(lambda k=k: produce(k)) for k in range(8)]

    assert _all_ended_well(children)
    connection = apsw.Connection(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("SELECT count(*), count(DISTINCT id) FROM job").fetchall() == [(8000, 8000)]
    assert connection.execute("SELECT jobs FROM counter").fetchall() == [(8000,)]
    connection.close()


def test_processes_that_claim_at_once_share_the_jobs_out(path):
    engine = SqliteEngine(path, durability="process")
    engine.enqueue([_job(str(i)) for i in range(400)])
    read_fd, write_fd = os.pipe()

    def work(k: int) -> None:
        mine = SqliteEngine(path, durability="process", busy_timeout_s=20.0, role="worker")
        mine.join(Session(id=f"s{k}", worker="w", tasks=frozenset({"work"})))
        taken = 0
        while claims := mine.claim(f"s{k}", _demand()).claims:
            taken += len(claims)
        os.write(write_fd, f"{taken}\n".encode())
        mine.close()

    children = [_forked(lambda k=k: work(k)) for k in range(4)]

    assert _all_ended_well(children)
    assert sum(map(int, os.read(read_fd, 1000).split())) == 400
    engine.close()
    os.close(read_fd)
    os.close(write_fd)


def _demand() -> Demand:
    return Demand(os.urandom(8), ("main",), (Ask((Kind.SYNC,), 7),))


def test_a_child_whose_parent_has_ended_loses_nothing_that_was_accepted(path):
    """As a daemon does: fork, and let the parent go; others come and go meanwhile."""

    def go_on() -> None:
        accepted = [engine.enqueue([_job("first")])[0].id]
        _visit(path)
        accepted += [engine.enqueue([_job(f"later-{i}")])[0].id for i in range(5)]
        os.write(write_fd, " ".join(accepted).encode())

    def daemonise() -> None:
        engine.enqueue([_job("parent")])
        _forked(lambda: (os.read(gone_fd, 1), go_on()))

    read_fd, write_fd = os.pipe()
    gone_fd, going_fd = os.pipe()
    engine = SqliteEngine(path)
    assert _all_ended_well([_forked(daemonise)])
    os.write(going_fd, b"!")

    accepted = os.read(read_fd, 1000).decode().split()

    _visit(path)
    stored = {job.id for job in engine.find(Filter()).jobs}
    assert len(accepted) == 6
    assert stored == {"parent", *accepted}
    engine.close()
    for fd in (read_fd, write_fd, gone_fd, going_fd):
        os.close(fd)


def _visit(path: str) -> None:
    """Open and close the file in a process of its own: the last one to close folds the log."""
    code = "import apsw, sys; c = apsw.Connection(sys.argv[1]); c.execute('SELECT 1 FROM job').fetchall()"
    subprocess.run([sys.executable, "-c", f"{code}; c.close()", path], check=True, timeout=20)


def test_a_fork_in_the_midst_of_anothers_transaction_keeps_nothing_of_it(path):
    engine = SqliteEngine(path, durability="process")
    engine.enqueue([_job("a")])
    is_over = threading.Event()

    def produce() -> None:
        for k in range(10_000):
            engine.enqueue([_job(f"{k}-{i}") for i in range(200)])
            if is_over.is_set():
                return

    producer = threading.Thread(target=produce)
    producer.start()
    children = []
    started_at = time.monotonic()
    for k in range(6):
        time.sleep(0.013)
        children.append(_forked(lambda k=k: engine.enqueue([_job(f"child {k}")])))
    forked_s = time.monotonic() - started_at

    assert _all_ended_well(children)
    took_s = time.monotonic() - started_at
    is_over.set()
    producer.join(20)
    assert engine.get([f"child {k}" for k in range(6)]).count(None) == 0
    assert (forked_s < 4, took_s < 4) == (True, True)
    engine.close()


def test_a_copy_that_was_forked_within_a_call_refuses_to_write(path, monkeypatch):
    monkeypatch.setattr(forks, "_PATIENCE_S", 0.2)
    engine = SqliteEngine(path)
    engine.open()
    statuses = []

    def refused() -> None:
        with pytest.raises(EngineError, match="forked in the middle of a call"):
            engine.enqueue([_job("child")])

    engine._opened().commits.run("test", lambda txn: statuses.append(_forked(refused)))

    assert _all_ended_well(statuses)
    assert engine.enqueue([_job("parent")])[0].fresh
    assert [job.id for job in engine.find(Filter()).jobs] == ["parent"]
    engine.close()
