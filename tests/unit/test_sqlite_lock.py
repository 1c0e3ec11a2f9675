"""The write lock: waiters are served in turn, their wait is bounded, and a stopped holder is dealt with."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from cicely.core.job import Kind, NewJob
from cicely.engines.sqlite.engine import SqliteEngine
from cicely.engines.sqlite.holder import DEFAULT_PATIENCE_S, Watch, _patience_with
from cicely.engines.sqlite.turnstile import Turnstile
from cicely.errors import EngineUnavailable

BOUND_S = 20.0

#: Stops itself while it holds the lock, just before its first commit after joining.
HOLDER = """
    import os, signal, sys
    from cicely.core import failpoints
    from cicely.core.job import Kind, NewJob
    from cicely.engines.contract import Session
    from cicely.engines.sqlite.engine import SqliteEngine

    def stop(name):
        if name == "sqlite.enqueue.before_commit":
            print("holding", flush=True)
            os.kill(os.getpid(), signal.SIGSTOP)

    engine = SqliteEngine(sys.argv[1], role=sys.argv[2])
    engine.join(Session(id="s", worker="s", lease_s=2.0))
    failpoints.install(stop)
    engine.enqueue([NewJob(id="held", task="work", kind=Kind.SYNC, queue="main")])
    print("committed", flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "jobs.db")


def _job(job_id: str) -> NewJob:
    return NewJob(id=job_id, task="work", kind=Kind.SYNC, queue="main")


@contextmanager
def _stopped_holder(path: str, role: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", textwrap.dedent(HOLDER), path, role]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "holding\n"
            _wait_until(lambda: _state(process.pid) == "T")
            yield process
        finally:
            process.kill()


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _wait_until(is_so) -> None:
    give_up_at = time.monotonic() + BOUND_S
    while not is_so():
        assert time.monotonic() < give_up_at
        time.sleep(0.01)


def test_a_stopped_worker_that_holds_the_lock_is_killed_and_said_to_be(path, caplog):
    with _stopped_holder(path, "worker") as holder:
        engine = SqliteEngine(path, busy_timeout_s=BOUND_S)

        assert engine.enqueue([_job("a")])[0].fresh

        assert holder.wait(BOUND_S) == -signal.SIGKILL
        assert f"killed worker process {holder.pid}" in caplog.text
        assert engine.get(["held"]) == [None]
        engine.close()


def test_a_stopped_producer_is_an_outage_and_is_left_alone(path):
    with _stopped_holder(path, "producer") as holder:
        engine = SqliteEngine(path, busy_timeout_s=1.0)

        with pytest.raises(EngineUnavailable, match=rf"process {holder.pid}, which is stopped: continue it"):
            engine.enqueue([_job("a")])

        assert _state(holder.pid) == "T"
        holder.send_signal(signal.SIGCONT)
        assert holder.wait(BOUND_S) == 0
        assert engine.enqueue([_job("a")])[0].fresh
        assert engine.get(["held"]) != [None]
        engine.close()


def test_several_short_waits_add_up_to_the_patience_with_a_stopped_worker(path):
    with _stopped_holder(path, "worker") as holder:
        engine = SqliteEngine(path, busy_timeout_s=0.3)

        def is_stored() -> bool:
            try:
                return bool(engine.enqueue([_job("a")]))
            except EngineUnavailable:
                return False

        _wait_until(is_stored)

        assert holder.wait(BOUND_S) == -signal.SIGKILL
        engine.close()


def test_reading_does_not_wait_for_a_stopped_writer(path):
    engine = SqliteEngine(path)
    engine.enqueue([_job("a")])
    with _stopped_holder(path, "producer"):
        assert engine.get(["a"]) != [None]
        assert len(engine.queues()) == 1
    engine.close()


def test_a_wait_is_bounded_and_the_message_names_the_holder(path):
    holder = Turnstile(path, role="producer")
    waiter = Turnstile(path, role="producer")
    holder.acquire(BOUND_S)

    with pytest.raises(EngineUnavailable, match=rf"not free within 0\.05 s.*process {os.getpid()}"):
        waiter.acquire(0.05)

    holder.release()
    waiter.acquire(BOUND_S)
    waiter.release()
    _close(holder, waiter)


def test_whoever_gave_up_does_not_keep_the_lock_from_others(path):
    holder, quitter, other = (Turnstile(path, role="producer") for _ in range(3))
    holder.acquire(BOUND_S)
    with pytest.raises(EngineUnavailable):
        quitter.acquire(0.05)

    holder.release()
    other.acquire(BOUND_S)

    other.release()
    _close(holder, quitter, other)


def test_a_turnstile_that_is_closed_while_it_queues_lets_go_when_its_turn_comes(path):
    holder, quitter, other = (Turnstile(path, role="producer") for _ in range(3))
    holder.acquire(BOUND_S)
    with pytest.raises(EngineUnavailable):
        quitter.acquire(0.05)
    quitter.close()

    holder.release()
    other.acquire(BOUND_S)

    other.release()
    _close(holder, other)


def test_the_releaser_does_not_overtake_the_one_who_waits(path):
    greedy, patient = Turnstile(path, role="producer"), Turnstile(path, role="producer")
    greedy.acquire(BOUND_S)
    served = threading.Event()

    def wait() -> None:
        patient.acquire(BOUND_S)
        served.set()
        patient.release()

    waiter = threading.Thread(target=wait)
    waiter.start()
    # `-turn` is taken as soon as the waiter stands at the head.
    _wait_until(lambda: not greedy._taken_at_once())
    time.sleep(0.1)
    greedy.release()
    greedy.acquire(BOUND_S)

    assert served.is_set()
    greedy.release()
    waiter.join(BOUND_S)
    _close(greedy, patient)


def _close(*turnstiles: Turnstile) -> None:
    for turnstile in turnstiles:
        turnstile.close()


def test_another_programs_lock_is_said_to_be_one(path):
    engine = SqliteEngine(path)
    engine.open()
    shell = apsw.Connection(path)
    shell.execute("BEGIN IMMEDIATE")
    engine._opened().commits._connection.set_busy_timeout(50)

    with pytest.raises(EngineUnavailable, match="locked by a program that is not Cicely"):
        engine.enqueue([_job("a")])

    shell.execute("ROLLBACK")
    assert engine.enqueue([_job("a")])[0].fresh
    shell.close()
    engine.close()


def test_threads_that_write_at_once_share_commits_and_get_their_own_answers(path):
    engine = SqliteEngine(path)
    engine.open()
    answers: dict[int, list[bool]] = {}

    def produce(k: int) -> None:
        answers[k] = [engine.enqueue([_job(f"{k}-{i}")])[0].fresh for i in range(30)]

    threads = [threading.Thread(target=produce, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND_S)

    assert answers == {k: [True] * 30 for k in range(8)}
    assert sum(engine.queues()[0].counts.values()) == 240
    engine.close()


def test_a_refused_call_leaves_the_others_of_its_commit_untouched(path):
    engine = SqliteEngine(path)
    engine.open()
    commits = engine._opened().commits
    answers: dict[str, object] = {}

    def refuse(txn) -> None:
        txn.execute("DELETE FROM job")
        txn.count(1, 1, -1000)
        raise EngineUnavailable("on purpose")

    def call(name: str, act) -> None:
        try:
            answers[name] = act()
        except EngineUnavailable as error:
            answers[name] = str(error)

    calls = {
        "a": lambda: engine.enqueue([_job("a")]),
        "refused": lambda: commits.run("test", refuse),
        "b": lambda: engine.enqueue([_job("b")]),
    }
    threads = [threading.Thread(target=call, args=item) for item in calls.items()]
    with commits._mutex:
        for thread in threads:
            thread.start()
        _wait_until(lambda: len(commits._pending) == 3)
    commits._wake_next()
    for thread in threads:
        thread.join(BOUND_S)

    assert answers["refused"] == "on purpose"
    assert engine.get(["a", "b"]) != [None, None]
    assert sum(engine.queues()[0].counts.values()) == 2
    engine.close()


def test_whoever_is_interrupted_while_it_waits_does_not_keep_the_lock(path):
    holder, interrupted, other = (Turnstile(path, role="producer") for _ in range(3))
    holder.acquire(BOUND_S)
    with _interruption(after_s=0.1), pytest.raises(KeyboardInterrupt):
        interrupted.acquire(BOUND_S)

    holder.release()
    other.acquire(2.0)

    other.release()
    interrupted.acquire(2.0)
    interrupted.release()
    _close(holder, interrupted, other)


@pytest.mark.parametrize("contended", [False, True])
def test_whoever_is_interrupted_when_it_has_just_got_the_lock_lets_go_of_it(path, contended):
    holder, interrupted, other = (Turnstile(path, role="producer") for _ in range(3))
    mark, interrupted._mark = interrupted._mark, _fail
    if contended:
        holder.acquire(BOUND_S)
        threading.Timer(0.1, holder.release).start()

    with pytest.raises(KeyboardInterrupt):
        interrupted.acquire(BOUND_S)

    other.acquire(2.0)
    other.release()
    interrupted._mark = mark
    interrupted.acquire(2.0)
    interrupted.release()
    _close(holder, interrupted, other)


def _fail() -> None:
    raise KeyboardInterrupt


@contextmanager
def _interruption(*, after_s: float) -> Iterator[None]:
    """Have Ctrl-C hit this thread in the meantime."""

    def interrupt(*_) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, after_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


#: Joins, then keeps the lock although it is not stopped, as one in a container's freezer.
FROZEN = HOLDER.replace("os.kill(os.getpid(), signal.SIGSTOP)", "os.read(0, 1)")


@contextmanager
def _frozen_holder(path: str, role: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", textwrap.dedent(FROZEN), path, role]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "holding\n"
            yield process
        finally:
            process.kill()


def test_a_worker_that_keeps_the_lock_without_being_stopped_is_killed_too(path, caplog, monkeypatch):
    monkeypatch.setattr("cicely.engines.sqlite.holder._FROZEN_S", 1.0)
    with _frozen_holder(path, "worker") as holder:
        engine = SqliteEngine(path, busy_timeout_s=5.0)

        assert engine.enqueue([_job("a")])[0].fresh

        assert holder.wait(BOUND_S) == -signal.SIGKILL
        assert "not moving while it held the write lock" in caplog.text
        engine.close()


def test_a_producer_that_keeps_the_lock_is_an_outage(path, monkeypatch):
    monkeypatch.setattr("cicely.engines.sqlite.holder._FROZEN_S", 0.5)
    with _frozen_holder(path, "producer") as holder:
        engine = SqliteEngine(path, busy_timeout_s=1.5)

        with pytest.raises(EngineUnavailable, match=f"held up by process {holder.pid}"):
            engine.enqueue([_job("a")])

        assert holder.poll() is None
        engine.close()


def test_a_worker_that_takes_the_lock_again_and_again_is_not_taken_for_stuck(path, monkeypatch):
    monkeypatch.setattr("cicely.engines.sqlite.holder._FROZEN_S", 0.3)
    busy = Turnstile(path, role="worker")
    busy.be_patient(0.3)
    watch = Watch(busy._lock, busy._turn)
    give_up_at = time.monotonic() + 1.0

    while time.monotonic() < give_up_at:
        busy.acquire(1.0)
        watch.look(path)
        busy.release()
        time.sleep(0.01)

    assert busy._acquired > 10
    _close(busy)


def test_a_worker_that_is_stopped_again_and_again_and_works_in_between_is_left_alone(path, monkeypatch):
    busy = Turnstile(path, role="worker")
    busy.be_patient(0.3)
    watch = Watch(busy._lock, busy._turn)
    monkeypatch.setattr("cicely.engines.sqlite.holder.is_stopped", lambda pid: True)
    give_up_at = time.monotonic() + 1.0

    while time.monotonic() < give_up_at:
        busy.acquire(1.0)
        watch.look(path)
        busy.release()
        time.sleep(0.01)

    assert busy._acquired > 10
    _close(busy)


#: Stops itself where nothing that it wrote could tell: just granted, or at the head of the queue.
UNSIGNED = """
    import fcntl, os, signal, sys
    from cicely.core.job import Kind, NewJob
    from cicely.engines.contract import Session
    from cicely.engines.sqlite.engine import SqliteEngine
    from cicely.engines.sqlite.turnstile import Turnstile

    path, role, place = sys.argv[1:]
    engine = SqliteEngine(path, role=role)
    engine.join(Session(id="s", worker="s", lease_s=2.0))

    def stop(*_):
        print("holding", flush=True)
        os.kill(os.getpid(), signal.SIGSTOP)

    def flock(file, how, really=fcntl.flock):
        really(file, how)
        if how & fcntl.LOCK_EX:
            stop()

    if place == "granted":
        Turnstile._mark = stop
    else:
        fcntl.flock = flock
    engine.enqueue([NewJob(id="held", task="work", kind=Kind.SYNC, queue="main")])
"""


@contextmanager
def _stopped_at(path: str, place: str, role: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", textwrap.dedent(UNSIGNED), path, role, place]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "holding\n"
            _wait_until(lambda: _state(process.pid) == "T")
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("place", ["granted", "head of the queue"])
def test_a_worker_that_is_stopped_before_it_could_write_anything_is_killed_as_well(path, place, caplog):
    with _stopped_at(path, place, "worker") as holder:
        engine = SqliteEngine(path, busy_timeout_s=BOUND_S)

        assert engine.enqueue([_job("a")])[0].fresh

        assert holder.wait(BOUND_S) == -signal.SIGKILL
        assert f"killed worker process {holder.pid}: it was stopped" in caplog.text
        engine.close()


@pytest.mark.parametrize("place", ["granted", "head of the queue"])
def test_a_producer_that_is_stopped_there_is_named_and_left_alone(path, place):
    with _stopped_at(path, place, "producer") as holder:
        engine = SqliteEngine(path, busy_timeout_s=1.5)

        with pytest.raises(EngineUnavailable, match=rf"process {holder.pid}, which is stopped: continue it"):
            engine.enqueue([_job("a")])

        assert _state(holder.pid) == "T"
        engine.close()


def test_a_worker_of_another_database_is_no_worker_here(tmp_path):
    here, elsewhere = str(tmp_path / "here.db"), str(tmp_path / "elsewhere.db")
    mine, other = Turnstile(here, role="producer"), Turnstile(elsewhere, role="worker")

    assert _patience_with(os.getpid(), mine._lock) is None
    assert _patience_with(os.getpid(), other._lock) == DEFAULT_PATIENCE_S
    other.be_patient(0.5)
    assert _patience_with(os.getpid(), other._lock) == 0.5
    lock = os.dup(other._lock)
    other.close()
    assert _patience_with(os.getpid(), lock) is None

    os.close(lock)
    mine.close()
