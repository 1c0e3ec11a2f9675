"""Facts about processes, asked of real ones."""

import fcntl
import os
import signal
import subprocess
import sys
import time

import pytest

from cicely.worker import processes
from cicely.worker.processes import Host

SLEEP = "import time; print('up', flush=True); time.sleep(60)"
SLEEP_WITH_A_CHILD = f"import os; os.fork(); {SLEEP}"
HOLD_64_MIB = "held = b'x' * (64 << 20); import time; print('up', flush=True); time.sleep(60)"
SLEEP_IN_ANOTHER_SESSION = f"import os; os.setsid(); {SLEEP}"
# The number of the system call exit: that of x86-64, else that of all newer machines.
END_THE_MAIN_THREAD_ALONE = (
    "import ctypes, os, threading, time;"
    "threading.Thread(target=lambda: (time.sleep(.2), print('up', flush=True), time.sleep(60)))"
    ".start();"
    "ctypes.CDLL(None).syscall(60 if os.uname().machine == 'x86_64' else 93, 0)"
)


LOCK_A_FILE_AND_HOLD_MUCH_MEMORY = (
    "import fcntl, os, sys, time;"
    "lock = open(os.environ['LOCKED']); fcntl.flock(lock, fcntl.LOCK_EX);"
    "held = b'x' * (1 << 30);"
    "print('up', flush=True); time.sleep(60)"
)


@pytest.fixture
def run():
    running = []

    def run(program, *, says=1, **variables):
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            env={**os.environ, **variables},
        )
        running.append(process)
        for _ in range(says):
            process.stdout.readline()
        return process

    yield run
    for process in running:
        processes.kill_tree(process.pid)
        process.wait()
        process.stdout.close()


def test_this_host_sees_itself_and_no_other_boot():
    host = processes.this_host()

    assert host.sees(processes.this_host())
    assert not host.sees(Host(boot_id="another", pid_ns=host.pid_ns, uid=host.uid))
    assert not host.sees(Host(boot_id=host.boot_id, pid_ns=host.pid_ns + 1, uid=host.uid))
    assert not host.sees(Host(boot_id=host.boot_id, pid_ns=host.pid_ns, uid=host.uid + 1))


def test_unknown_hosts_do_not_see_each_other():
    unknown = Host(boot_id="", pid_ns=0, uid=1)

    assert not unknown.sees(unknown)


def test_a_process_is_alive_until_it_ended_even_when_nobody_waited_for_it(run):
    process = run(SLEEP)
    started = processes.start_time(process.pid)

    before = processes.is_alive(process.pid, started)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    assert before
    assert not processes.is_alive(process.pid, started)


def test_a_process_of_another_start_time_is_not_the_one_asked_for(run):
    process = run(SLEEP)

    assert not processes.is_alive(process.pid, processes.start_time(process.pid) + 1)


def test_a_process_whose_main_thread_alone_ended_is_alive(run):
    process = run(END_THE_MAIN_THREAD_ALONE)

    assert processes.is_alive(process.pid, processes.start_time(process.pid))


def test_nothing_has_no_start_time():
    assert processes.start_time(2**22 + 1) is None


def test_a_stopped_process_is_told_from_a_running_one(run):
    process = run(SLEEP)

    before = processes.is_stopped(process.pid)
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)

    assert not before
    assert processes.is_stopped(process.pid)


def test_a_name_with_parentheses_confuses_nothing(run):
    process = run(f"import ctypes; ctypes.CDLL(None).prctl(15, b') R 1 (', 0, 0, 0); {SLEEP}")

    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)

    assert processes.is_stopped(process.pid)


def test_descendants_are_found_and_killed_with_their_tree(run):
    process = run(SLEEP_WITH_A_CHILD, says=2)
    [child] = processes.descendants(process.pid)

    assert processes.kill_tree(process.pid) == [process.pid, child]
    assert process.wait() == -9


def test_a_scan_of_all_processes_finds_the_same_children(run):
    process = run(SLEEP_WITH_A_CHILD, says=2)

    found = processes._children_by_scan(process.pid)

    assert found == processes.children(process.pid) != []


def test_the_memory_of_a_tree_is_seen(run):
    small = processes.tree_rss_bytes(run(SLEEP).pid)

    large = processes.tree_rss_bytes(run(HOLD_64_MIB).pid)

    assert 64 << 20 <= large - small + (2 << 20) < 80 << 20


def test_the_memory_of_a_tree_is_read_in_a_fraction_of_a_millisecond(run):
    process = run(SLEEP_WITH_A_CHILD, says=2)

    began = time.perf_counter()
    for _ in range(100):
        processes.tree_rss_bytes(process.pid)

    assert (time.perf_counter() - began) / 100 < 0.001


def test_a_mark_is_read_from_the_environment(run):
    assert processes.mark_of(run(SLEEP, CICELY_WORKER="abc").pid) == "abc"
    assert processes.mark_of(2**22 + 1) is None


def test_marked_processes_are_killed_in_other_sessions_too_and_the_spared_are_not(run):
    mark = os.urandom(8).hex()
    marked = run(SLEEP_IN_ANOTHER_SESSION, CICELY_WORKER=mark)
    spared = run(SLEEP, CICELY_WORKER=mark)
    stranger = run(SLEEP, CICELY_WORKER=f"{mark}0")

    killed = processes.kill_marked(mark, spare=[spared.pid])

    assert killed == [marked.pid]
    assert marked.wait(1) == -9
    assert spared.poll() is None
    assert stranger.poll() is None


def test_a_marked_process_that_is_ending_already_has_ended_with_its_locks_when_all_are_killed(run, tmp_path):
    """It gives back its memory, its mark in it, before its locks: a gibibyte takes a while."""
    mark, locked = os.urandom(8).hex(), tmp_path / "locked"
    locked.touch()
    process = run(LOCK_A_FILE_AND_HOLD_MUCH_MEMORY, CICELY_WORKER=mark, LOCKED=str(locked))
    process.kill()
    while processes.mark_of(process.pid) == mark:
        pass

    processes.kill_marked(mark)

    with locked.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
