"""Which control groups a worker uses, and what the files in them mean. Here they are mere folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cicely.engines.hostfacts import pid_namespace
from cicely.errors import ConfigError
from cicely.worker import cgroups
from cicely.worker.board import Running
from cicely.worker.cgroups import MemoryGroups, memory_groups, own_groups
from cicely.worker.limits import TOO_LARGE
from cicely.worker.options import WorkerOptions
from cicely.worker.processes import start_time
from cicely.worker.ward import Ward

MIB = 1 << 20
NEW_FILES = {
    1: {
        "memory.limit_in_bytes": "9223372036854771712",
        "memory.memsw.limit_in_bytes": "9223372036854771712",
        "memory.max_usage_in_bytes": "0",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 0",
        "cgroup.procs": "",
    },
    2: {
        "memory.max": "max",
        "memory.swap.max": "max",
        "memory.oom.group": "0",
        "memory.events": "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0",
        "cgroup.subtree_control": "",
        "cgroup.procs": "",
    },
}


class Kernel:
    """A folder that behaves like a hierarchy of control groups, of either version."""

    def __init__(self, root: Path, version: int) -> None:
        self.root = root
        self.version = version

    def fill(self, group: Path) -> Path:
        for name, text in NEW_FILES[self.version].items():
            if text is None:
                (group / name).symlink_to("/missing/file")
            else:
                (group / name).write_text(text)
        return group


@pytest.fixture
def kernel_of(monkeypatch, tmp_path):
    def of(version: int) -> Kernel:
        kernel = Kernel(tmp_path, version)
        mkdir, rmdir = Path.mkdir, os.rmdir

        def make_group(path: Path, **options: bool) -> None:
            mkdir(path, **options)
            kernel.fill(path)

        def remove_group(path: Path) -> None:
            procs = path / "cgroup.procs"
            pids = procs.read_text().split() if procs.exists() else []
            if any(Path(f"/proc/{pid}").exists() for pid in pids) or any(
                below.is_dir() for below in path.iterdir()
            ):
                raise OSError(16, "Device or resource busy", str(path))
            for file in path.iterdir():
                file.unlink()
            rmdir(path)

        monkeypatch.setattr(Path, "mkdir", make_group)
        monkeypatch.setattr(cgroups.os, "rmdir", remove_group)
        kernel.fill(tmp_path)
        return kernel

    yield of
    monkeypatch.undo()


@pytest.fixture(params=[1, 2])
def kernel(request, kernel_of) -> Kernel:
    return kernel_of(request.param)


# --- which group --------------------------------------------------------------------------------
MOUNTED = "24 1 0:22 {root} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"


def test_the_groups_to_look_at_are_the_process_own_and_the_one_above():
    found = own_groups("0::/system.slice/evals.service/worker\n", MOUNTED.format(root="/"))

    assert found == [
        Path("/sys/fs/cgroup/system.slice/evals.service/worker"),
        Path("/sys/fs/cgroup/system.slice/evals.service"),
    ]


def test_nothing_above_the_mounted_part_of_the_hierarchy_is_looked_at():
    assert own_groups("0::/docker/1\n", MOUNTED.format(root="/docker/1")) == [Path("/sys/fs/cgroup")]
    assert own_groups("0::/docker/2\n", MOUNTED.format(root="/docker/1")) == []


def test_a_machine_with_the_first_version_alone_has_no_group_that_can_be_delegated():
    mounted = "30 1 0:25 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"

    assert own_groups("4:memory:/evals\n", mounted) == []
    assert own_groups("0::/\n", mounted) == []


def test_a_group_that_can_be_written_to_but_was_not_given_away_is_left_alone(monkeypatch):
    monkeypatch.delenv(cgroups.VARIABLE, raising=False)
    monkeypatch.setattr(cgroups, "_xattr", lambda group, mark: None)

    groups, how = memory_groups()

    assert groups is None
    assert how.startswith("sampled, for no control group can be used: none is delegated to this process")


def test_a_group_that_was_named_in_vain_is_refused_with_the_reason(monkeypatch, tmp_path):
    monkeypatch.setenv(cgroups.VARIABLE, str(tmp_path / "missing"))

    with pytest.raises(ConfigError, match=r"CICELY_CGROUP=.*missing cannot hold groups.*No such file"):
        memory_groups()


def test_a_folder_that_is_no_control_group_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv(cgroups.VARIABLE, str(tmp_path))

    with pytest.raises(ConfigError, match=r"subtree_control: No such file"):
        memory_groups()
    assert list(tmp_path.iterdir()) == []


def test_a_group_that_can_be_made_and_not_filled_is_refused(monkeypatch, kernel):
    monkeypatch.setenv(cgroups.VARIABLE, str(kernel.root))
    monkeypatch.setitem(NEW_FILES[kernel.version], "cgroup.procs", None)

    with pytest.raises(ConfigError, match=r"trial/cgroup.procs: "):
        memory_groups()


def test_a_named_group_is_used(monkeypatch, kernel):
    monkeypatch.setenv(cgroups.VARIABLE, str(kernel.root))

    groups, how = memory_groups()

    assert groups is not None
    assert how == f"kept by control groups in {groups.folder}"
    assert groups.folder.parent == kernel.root


# --- one attempt --------------------------------------------------------------------------------
def test_a_group_of_the_second_version_is_limited_without_swap_and_ends_as_a_whole(kernel_of):
    kernel = kernel_of(2)
    groups = MemoryGroups.open(kernel.root)

    group = groups.create("job", 64 * MIB)

    assert (group / "memory.max").read_text() == str(64 * MIB)
    assert (group / "memory.swap.max").read_text() == "0"
    assert (group / "memory.oom.group").read_text() == "1"
    assert (groups.folder / "cgroup.subtree_control").read_text() == "+memory"


def test_a_group_of_the_first_version_is_limited_with_its_swap(kernel_of):
    groups = MemoryGroups.open(kernel_of(1).root)

    group = groups.create("job", 64 * MIB)

    assert (group / "memory.limit_in_bytes").read_text() == str(64 * MIB)
    assert (group / "memory.memsw.limit_in_bytes").read_text() == str(64 * MIB)


def overflow(group: Path) -> None:
    """Leave what the kernel leaves in a group that was ended for its limit."""
    if (group / "memory.events").exists():
        (group / "memory.events").write_text("max 9\noom 1\noom_kill 1")
        return
    (group / "memory.max_usage_in_bytes").write_text((group / "memory.limit_in_bytes").read_text())
    (group / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 1")


def test_what_was_ended_for_its_groups_limit_has_overflowed(kernel):
    groups = MemoryGroups.open(kernel.root)
    group = groups.create("job", 64 * MIB)
    assert not groups.has_overflowed("job")

    overflow(group)

    assert groups.has_overflowed("job")


def test_what_was_ended_because_the_machine_is_out_of_memory_has_not_overflowed(kernel):
    groups = MemoryGroups.open(kernel.root)
    group = groups.create("job", 64 * MIB)

    overflow(group)
    (group / "memory.events").write_text("oom 0\noom_kill 1")
    (group / "memory.max_usage_in_bytes").write_text(str(40 * MIB))

    assert not groups.has_overflowed("job")


def test_a_group_that_is_gone_has_not_overflowed(kernel):
    assert not MemoryGroups.open(kernel.root).has_overflowed("job")


def test_a_process_that_cannot_enter_its_group_takes_it_away_so_that_it_is_sampled(kernel):
    groups = MemoryGroups.open(kernel.root)
    group = groups.create("job", 64 * MIB)
    (group / "cgroup.procs").unlink()
    (group / "cgroup.procs").symlink_to("/missing/file")

    cgroups.enter(group)

    assert not groups.has("job")


# --- afterwards ---------------------------------------------------------------------------------
def test_a_worker_that_ends_leaves_no_group(kernel):
    groups = MemoryGroups.open(kernel.root)
    groups.create("job", 64 * MIB)

    groups.close()

    assert [path for path in kernel.root.iterdir() if path.is_dir()] == []


def test_a_group_in_which_something_runs_stays(kernel):
    groups = MemoryGroups.open(kernel.root)
    group = groups.create("job", 64 * MIB)
    (group / "cgroup.procs").write_text(f"{os.getpid()}\n")

    groups.remove("job")
    groups.close()

    assert groups.has("job")


def test_the_next_worker_removes_the_groups_of_those_that_are_provably_dead(kernel):
    pid, started, pid_ns = os.getpid(), start_time(os.getpid()) or 0, pid_namespace()
    dead = kernel.root / f"cicely-{pid_ns}-{pid}-{started - 1}"
    alive = kernel.root / f"cicely-{pid_ns}-{pid}-{started}"
    elsewhere = kernel.root / f"cicely-{pid_ns + 1}-{pid}-{started - 1}"
    for folder in (dead, alive, elsewhere):
        folder.mkdir()
        (folder / "job").mkdir()

    cgroups.sweep(kernel.root)

    assert not dead.exists()
    assert (alive / "job").exists()
    assert (elsewhere / "job").exists()


# --- the supervisor -----------------------------------------------------------------------------
@pytest.fixture
def limited(kernel):
    """An attempt of another process than its child's, far over its limit if it is sampled."""
    groups = MemoryGroups.open(kernel.root)
    ward = Ward(1, WorkerOptions(target="a:b", threads=1, coroutines=0), groups)
    attempt = Running(slot=0, token=bytes(16), started_at=0.0, memory_bytes=MIB, pid=os.getpid())
    ward.board.start_limited(attempt)
    yield ward, groups, attempt.token.hex()
    ward.board.close()


def test_an_attempt_without_a_group_is_sampled(limited):
    ward, _, _ = limited

    assert [verdict for _, verdict in ward.verdicts()] == [TOO_LARGE]


def test_an_attempt_with_a_group_is_over_its_limit_when_the_kernel_says_so(limited):
    ward, groups, name = limited
    group = groups.create(name, MIB)
    assert ward.verdicts() == []

    overflow(group)

    assert [verdict for _, verdict in ward.verdicts()] == [TOO_LARGE]


def test_the_groups_of_a_dead_child_are_removed(limited):
    ward, groups, name = limited
    groups.create(name, MIB)

    ward.close()

    assert not groups.has(name)
