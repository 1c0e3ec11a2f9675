"""A worker that is stopped at the head of the queue for the write lock keeps nobody out."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from cicely.engines.sqlite.turnstile import Turnstile
from cicely.errors import EngineUnavailable

#: Queues up for the lock, which somebody else has.
WAITER = """
    import sys
    from cicely.engines.sqlite.turnstile import Turnstile

    turnstile = Turnstile(sys.argv[1], role=sys.argv[2])
    turnstile.be_patient(0.5)
    print("waiting", flush=True)
    turnstile.acquire(60)
    turnstile.release()
    print("done", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "jobs.db")


def stopped_at_the_head(path: str, role: str, holder: Turnstile) -> subprocess.Popen[str]:
    """Return a process that was stopped while it waited for the lock of `holder`, alone."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WAITER), path, role],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    await_a_head(path)
    process.send_signal(signal.SIGSTOP)
    holder.release()
    return process


def await_a_head(path: str) -> None:
    """Return once somebody is at the head of the queue."""
    give_up_at = time.monotonic() + 10
    with Path(f"{path}-turn").open("rb") as turn:
        while time.monotonic() < give_up_at:
            try:
                fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            fcntl.flock(turn, fcntl.LOCK_UN)
            time.sleep(0.01)
    pytest.fail("nobody queued up")


def test_a_worker_stopped_at_the_head_of_the_queue_is_killed(path):
    holder, next_one = Turnstile(path, role="producer"), Turnstile(path, role="producer")
    holder.acquire(1)
    process = stopped_at_the_head(path, "worker", holder)

    next_one.acquire(10)

    assert process.wait(5) == -signal.SIGKILL
    next_one.release()


def test_a_producer_stopped_at_the_head_of_the_queue_is_left_alone(path):
    holder, next_one = Turnstile(path, role="producer"), Turnstile(path, role="producer")
    holder.acquire(1)
    process = stopped_at_the_head(path, "producer", holder)

    with pytest.raises(EngineUnavailable):
        next_one.acquire(2)

    process.send_signal(signal.SIGCONT)
    assert process.stdout is not None
    assert process.stdout.readline() == "done\n"
    next_one.acquire(2)
    process.kill()
    process.wait()


def test_a_worker_that_waits_and_is_not_stopped_is_left_alone(path):
    holder, next_one = Turnstile(path, role="producer"), Turnstile(path, role="producer")
    holder.acquire(1)
    process = stopped_at_the_head(path, "worker", Turnstile(path, role="producer"))
    process.send_signal(signal.SIGCONT)

    with pytest.raises(EngineUnavailable):
        next_one.acquire(2)

    assert process.poll() is None
    holder.release()
    next_one.acquire(2)
    process.kill()
    process.wait()
