"""The zygote: what it forks is born fast, reported at once, and gone when it is said to be."""

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cicely.worker.line import Exited, Gone, Lapsed
from cicely.worker.nursery import ForkRefused, PreloadFailed, Zygote, ZygoteDied, ZygoteStalled
from cicely.worker.processes import boottime, children, is_alive, kill_marked, mark_of, start_time

HERE = Path(__file__).parent
ENTRIES = [
    "returns",
    "raises",
    "exits",
    "tells",
    "draws",
    "waits",
    "breeds",
    "explodes",
    "owns",
    "owns_from_threads",
]
ROLES = {name: f"zygote_entries:{name}" for name in ENTRIES}


@pytest.fixture
def start(tmp_path):
    started = []

    def start(target=None, *, hold_s=60.0, preload=True):
        mark = os.urandom(8).hex()
        zygote = Zygote.start(
            target,
            mark=mark,
            deadline_at=boottime() + hold_s,
            preload=preload,
            python_path=[str(HERE), str(tmp_path)],
            roles=ROLES,
        )
        zygote.mark = mark
        started.append(zygote)
        return zygote

    yield start
    for zygote in started:
        os.kill(zygote.pid, signal.SIGCONT)
        zygote.close()
        kill_marked(zygote.mark)


@pytest.fixture
def zygote(start):
    return start()


class Pipe:
    """What forked processes say, line by line."""

    def __init__(self):
        self.reader, self.writer = os.pipe()
        self.text = b""

    def lines(self, count, *, within_s=5.0):
        give_up_at = boottime() + within_s
        while self.text.count(b"\n") < count:
            remaining_s = give_up_at - boottime()
            assert select.select([self.reader], [], [], max(0, remaining_s))[0], self.text
            self.text += os.read(self.reader, 4096)
        return self.text.decode().splitlines()

    def pids(self, count, *, within_s=5.0):
        """Return (pid, start time) of processes that said their pids."""
        return [(int(pid), start_time(int(pid))) for pid in self.lines(count, within_s=within_s)]


@pytest.fixture
def pipe():
    pipe = Pipe()
    yield pipe
    os.close(pipe.reader)
    os.close(pipe.writer)


def events_until(nursery, wanted, *, within_s=5.0):
    """Return all events up to the first that `wanted` accepts, or fail."""
    seen = []
    give_up_at = boottime() + within_s
    while boottime() < give_up_at:
        select.select([nursery], [], [], give_up_at - boottime())
        for event in nursery.events():
            seen.append(event)
            if wanted(event):
                return seen
    raise AssertionError(f"only {seen} within {within_s} s")


def await_gone(zygote, pid, *, within_s=5.0):
    return events_until(zygote, lambda event: isinstance(event, Gone) and event.pid == pid, within_s=within_s)


def living(processes):
    return [pid for pid, started in processes if started is not None and is_alive(pid, started)]


def await_death(processes, *, within_s):
    give_up_at = boottime() + within_s
    while left := living(processes):
        assert boottime() < give_up_at, f"{left} still alive after {within_s} s"
        time.sleep(0.005)


# Birth


def test_a_forked_process_gets_app_spec_descriptors_and_a_session_of_its_own(start, pipe):
    zygote = start("zygote_entries:APP")

    pid = zygote.fork("tells", b"a spec", fds=[pipe.writer])

    await_gone(zygote, pid)
    assert os.read(pipe.reader, 4096) == b"['the app', 'a spec', True, True]"


def test_a_spec_of_megabytes_arrives_whole(start, pipe):
    zygote = start()
    spec = b"x" * 3_000_000

    pid = zygote.fork("tells", spec, fds=[os.open(os.devnull, os.O_WRONLY)])

    assert await_gone(zygote, pid)[-1] == Gone(pid, 0)


def test_a_fork_takes_less_than_20_ms(zygote):
    zygote.fork("returns")

    began = time.perf_counter()
    for _ in range(10):
        zygote.fork("returns")

    assert (time.perf_counter() - began) / 10 < 0.020


def test_forked_processes_draw_different_numpy_numbers(start, pipe, tmp_path):
    (tmp_path / "numeric_app.py").write_text("import numpy.random\nAPP = 1\n")
    zygote = start("numeric_app:APP")

    zygote.fork("draws", fds=[pipe.writer])
    zygote.fork("draws", fds=[pipe.writer])

    first, second = pipe.lines(2)
    assert zygote.threads == []
    assert first != second


def test_an_unknown_role_is_refused(zygote):
    with pytest.raises(ForkRefused, match="there is no role 'nonsense'"):
        zygote.fork("nonsense")


def test_the_mark_is_in_the_environment_of_all(zygote, pipe):
    zygote.fork("waits", fds=[pipe.writer])
    [(pid, _)] = pipe.pids(1)

    assert mark_of(pid) == mark_of(zygote.pid) == zygote.mark


# Preload


def test_the_manifest_comes_from_the_app(start, tmp_path):
    (tmp_path / "listing_app.py").write_text(
        "class App:\n    def manifest(self):\n        return {'tasks': ['x'] * 50_000}\napp = App()\n"
    )

    zygote = start("listing_app:app")

    assert len(zygote.manifest["tasks"]) == 50_000


def test_a_failing_import_is_reported_with_the_users_frames_alone(start, tmp_path):
    (tmp_path / "broken_app.py").write_text("def f():\n    return 1 / 0\napp = f()\n")

    with pytest.raises(PreloadFailed) as failure:
        start("broken_app:app")

    assert str(failure.value) == ("cannot import broken_app:app: ZeroDivisionError: division by zero")
    assert "broken_app.py" in failure.value.traceback
    assert "importlib" not in failure.value.traceback
    assert "preload.py" not in failure.value.traceback


def test_a_missing_module_is_named(start):
    with pytest.raises(PreloadFailed, match="there is no module 'no_such_module' on the Python"):
        start("no_such_module:app")


def test_a_missing_attribute_is_named(start):
    with pytest.raises(PreloadFailed, match="module 'zygote_entries' has no 'nothing'"):
        start("zygote_entries:nothing")


def test_an_import_that_ends_the_interpreter_is_reported(start, tmp_path):
    (tmp_path / "suicidal_app.py").write_text("import os\nos._exit(3)\n")

    with pytest.raises(PreloadFailed, match="ended the whole interpreter with exit code 3"):
        start("suicidal_app:app")


def test_an_import_that_never_ends_does_not_outlive_its_supervisor(tmp_path):
    (tmp_path / "endless_app.py").write_text("import time\ntime.sleep(60)\n")
    mark = os.urandom(8).hex()
    program = (
        "from cicely.worker.nursery import Zygote; Zygote.start('endless_app:app', "
        f"mark={mark!r}, deadline_at=1e9, python_path=[{str(tmp_path)!r}], roles={{}})"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", program])
    zygotes = []
    while not zygotes:
        zygotes = [(pid, start_time(pid)) for pid in children(supervisor.pid)]
        time.sleep(0.01)
    time.sleep(0.5)

    supervisor.kill()
    supervisor.wait()

    await_death(zygotes, within_s=1)


def test_an_app_that_starts_a_thread_is_named_and_imported_after_each_fork(start, tmp_path, pipe):
    (tmp_path / "threaded_app.py").write_text(
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(60,), name='the-poller').start()\n"
        "class App:\n"
        "    def manifest(self):\n        return {'tasks': ['x']}\n"
        "    def __repr__(self):\n        return 'imported'\n"
        "app = App()\n"
    )

    zygote = start("threaded_app:app")
    zygote.fork("tells", fds=[pipe.writer])

    assert zygote.threads == ["the-poller"]
    assert zygote.manifest == {"tasks": ["x"]}
    assert select.select([pipe.reader], [], [], 5)[0]
    assert os.read(pipe.reader, 4096).startswith(b"[imported, ")


# Exits


def test_an_exit_is_reported_at_once_with_its_code(zygote):
    pid = zygote.fork("exits", b"3")
    began = time.perf_counter()

    seen = await_gone(zygote, pid)

    assert seen == [Exited(pid, 3), Gone(pid, 3)]
    assert time.perf_counter() - began < 0.1


def test_a_death_by_a_signal_is_reported_as_minus_the_signal(zygote, pipe):
    pid = zygote.fork("waits", fds=[pipe.writer])
    pipe.lines(1)

    os.kill(pid, signal.SIGSEGV)

    assert await_gone(zygote, pid) == [Exited(pid, -11), Gone(pid, -11)]


def test_an_entry_that_returns_exits_with_0_and_one_that_raises_with_70(zygote):
    returned = zygote.fork("returns")
    await_gone(zygote, returned)
    raised = zygote.fork("raises")

    assert await_gone(zygote, raised)[-1] == Gone(raised, 70)


def test_events_that_came_during_a_fork_keep_the_nursery_readable(zygote):
    first = zygote.fork("exits", b"1")
    time.sleep(0.1)
    zygote.fork("waits", fds=[1])

    assert select.select([zygote], [], [], 0)[0]
    assert zygote.events() == [Exited(first, 1), Gone(first, 1)]
    assert not select.select([zygote], [], [], 0)[0]


# Killed means gone


def test_nothing_of_a_killed_childs_tree_is_left_when_it_is_gone(zygote, pipe):
    pid = zygote.fork("breeds", fds=[pipe.writer])
    tree = pipe.pids(4)

    zygote.kill(pid)
    seen = await_gone(zygote, pid)

    assert living(tree) == []
    assert seen == [Exited(pid, -9), Gone(pid, -9)]


def test_what_an_exited_child_left_behind_is_killed_before_it_is_gone(zygote, pipe):
    pid = zygote.fork("breeds", b"exits", fds=[pipe.writer])
    tree = pipe.pids(4)

    await_gone(zygote, pid)

    assert living(tree) == []


def test_the_orphans_of_a_living_child_stay_its_own_when_others_die(zygote, pipe):
    zygote.fork("breeds", fds=[pipe.writer])
    tree = pipe.pids(4)

    await_gone(zygote, zygote.fork("returns"))

    assert len(living(tree)) == 4


def test_nothing_of_a_killed_attempts_tree_is_left_when_its_owner_hears_so(zygote, pipe):
    told = Pipe()
    child = zygote.fork("owns", b"breeds", fds=[pipe.writer, told.writer])
    tree = pipe.pids(4)

    told.lines(2)

    assert living(tree) == []
    assert [line.split("(")[0] for line in told.lines(2)] == ["Exited", "Gone"]
    assert start_time(child) is not None


def test_the_supervisor_hears_of_attempts_too(zygote, pipe):
    zygote.fork("owns", b"exits", fds=[pipe.writer])

    seen = events_until(zygote, lambda event: isinstance(event, Gone))

    assert [type(event) for event in seen] == [Exited, Gone]


def test_the_attempts_of_a_dead_child_are_gone_before_it(zygote, pipe):
    child = zygote.fork("owns", b"breeds", fds=[pipe.writer])
    tree = pipe.pids(4)

    os.kill(child, signal.SIGKILL)
    seen = await_gone(zygote, child)

    assert living(tree) == []
    assert [type(event) for event in seen] == [Exited, Exited, Gone, Gone]
    assert (seen[0].pid, seen[-1].pid) == (child, child)


def test_a_fork_bomb_that_is_still_growing_is_gone(zygote, pipe):
    tokens = Pipe()
    os.write(tokens.writer, b"x" * 60)
    os.set_blocking(tokens.reader, False)
    pid = zygote.fork("explodes", fds=[pipe.writer, tokens.reader])
    pipe.lines(5)

    zygote.kill(pid)
    await_gone(zygote, pid)

    assert children(zygote.pid) == []
    assert living(pipe.pids(5)) == []


def test_a_fork_bomb_that_is_fully_grown_is_gone(zygote, pipe):
    tokens = Pipe()
    os.write(tokens.writer, b"x" * 60)
    os.set_blocking(tokens.reader, False)
    pid = zygote.fork("explodes", fds=[pipe.writer, tokens.reader])
    tree = pipe.pids(60)

    zygote.kill(pid)
    await_gone(zygote, pid)

    assert living(tree) == []


def test_a_child_forks_attempts_from_many_threads(zygote, pipe):
    zygote.fork("owns_from_threads", fds=[pipe.writer])

    assert pipe.lines(1) == ["40"]


def test_a_signal_to_the_whole_service_does_not_end_the_zygote(zygote):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(zygote.pid, number)

    assert zygote.fork("returns") > 0


# Nobody outlives the supervisor, the zygote, or the deadline


def test_all_are_gone_within_a_second_of_the_supervisors_end(start, pipe):
    zygote = start()
    zygote.fork("breeds", fds=[pipe.writer])
    zygote.fork("breeds", fds=[pipe.writer])
    tree = [*pipe.pids(8), (zygote.pid, start_time(zygote.pid))]

    zygote._line.close()

    await_death(tree, within_s=1)


def test_children_die_with_a_killed_zygote(zygote, pipe):
    zygote.fork("waits", fds=[pipe.writer])
    zygote.fork("owns", b"waits", fds=[pipe.writer])
    family = pipe.pids(2)

    os.kill(zygote.pid, signal.SIGKILL)

    await_death(family, within_s=1)
    with pytest.raises(ZygoteDied):
        events_until(zygote, lambda _: False, within_s=1)
    with pytest.raises(ZygoteDied):
        zygote.fork("returns")


def test_what_outlives_a_killed_zygote_is_found_by_its_mark(zygote, pipe):
    zygote.fork("breeds", fds=[pipe.writer])
    tree = pipe.pids(4)
    os.kill(zygote.pid, signal.SIGKILL)
    time.sleep(0.1)
    survivors = living(tree)

    killed = kill_marked(zygote.mark)

    assert len(survivors) == 3
    assert set(killed) >= set(survivors)
    assert living(tree) == []


def test_all_trees_die_when_the_deadline_passes(start, pipe):
    zygote = start(hold_s=60)
    pid = zygote.fork("breeds", fds=[pipe.writer])
    tree = pipe.pids(4)
    deadline_at = boottime() + 0.3
    zygote.hold_until(deadline_at)

    seen = await_gone(zygote, pid)

    assert seen == [Lapsed(deadline_at), Exited(pid, -9), Gone(pid, -9)]
    assert living(tree) == []
    assert boottime() - deadline_at < 1.5


def test_a_moved_deadline_kills_nothing(start, pipe):
    zygote = start(hold_s=60)
    zygote.fork("waits", fds=[pipe.writer])
    family = pipe.pids(1)

    zygote.hold_until(boottime() + 0.5)
    zygote.hold_until(boottime() + 60)
    time.sleep(0.7)

    assert len(living(family)) == 1
    assert zygote.events() == []


def test_after_a_lapse_forks_are_refused_until_a_new_deadline(start):
    zygote = start(hold_s=0.05)
    events_until(zygote, lambda event: isinstance(event, Lapsed))

    with pytest.raises(ForkRefused, match="the deadline has passed"):
        zygote.fork("returns")
    zygote.hold_until(boottime() + 60)

    assert zygote.fork("returns") > 0


def test_a_zygote_stopped_past_the_deadline_kills_when_it_continues_whatever_it_then_reads(start, pipe):
    zygote = start(hold_s=60)
    zygote.hold_until(boottime() + 1.5)
    zygote.fork("breeds", fds=[pipe.writer])
    tree = pipe.pids(4)

    os.kill(zygote.pid, signal.SIGSTOP)
    time.sleep(1.6)
    zygote.hold_until(boottime() + 60)
    alive_while_stopped = len(living(tree))
    os.kill(zygote.pid, signal.SIGCONT)

    assert alive_while_stopped == 4
    await_death(tree, within_s=1)
    assert zygote.fork("returns") > 0


def test_a_stopped_zygote_does_not_hold_up_its_caller_and_its_late_births_are_killed(zygote):
    os.kill(zygote.pid, signal.SIGSTOP)
    with pytest.raises(ZygoteStalled):
        zygote.fork("waits", fds=[1], timeout_s=0.1)

    os.kill(zygote.pid, signal.SIGCONT)
    seen = events_until(zygote, lambda event: isinstance(event, Gone))

    assert seen[-1].status == -9
