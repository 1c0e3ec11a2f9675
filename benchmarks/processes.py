"""What a tree of processes costs: its memory and its time on the CPU, from /proc."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import psutil


class Memory(msgspec.Struct, frozen=True):
    """Proportional set sizes in MB: of a whole worker, and of its children alone."""

    whole_mb: float
    children_mb: float


def children_of(pid: int) -> list[int]:
    """Return the pids of a process's own children, oldest first."""
    return [child.pid for child in psutil.Process(pid).children()]


def tree_of(pid: int) -> list[int]:
    """Return the pids of a process and all its descendants."""
    process = psutil.Process(pid)
    return [pid, *(child.pid for child in process.children(recursive=True))]


def memory_of(pid: int, *, children: Sequence[int]) -> Memory:
    """Return what the tree below `pid` weighs, and its `children` alone."""
    whole_mb = sum(_pss_mb(member) for member in tree_of(pid))
    return Memory(whole_mb, sum(_pss_mb(child) for child in children))


def _pss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1000
    raise RuntimeError(f"/proc/{pid}/smaps_rollup names no Pss")


def pss_mb(roots: Sequence[int]) -> float:
    """Return what these trees weigh; a process that ends meanwhile weighs nothing."""
    total = 0.0
    for member in (member for root in roots for member in tree_of(root)):
        with contextlib.suppress(OSError):
            total += _pss_mb(member)
    return total


def cpu_s(pids: Sequence[int]) -> float:
    """Return the seconds that these processes have spent on the CPU, to the nanosecond."""
    return sum(sum(thread_cpu_s(pid).values()) for pid in pids)


def tree_cpu_s(roots: Sequence[int]) -> float:
    """Return the seconds that these trees have spent so far, to 10 ms, those that ended in them included."""
    # What a process spent goes to its parent when it is waited for: a fork per job is not lost.
    return sum(_spent_s(member) for root in roots for member in tree_of(root))


def _spent_s(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system + times.children_user + times.children_system


def thread_cpu_s(pid: int) -> dict[int, float]:
    """Return the seconds that each thread of a process has spent on the CPU, by its id."""
    # utime and stime count ticks of 10 ms, which an idle worker hardly ever fills.
    files = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return {int(file.parent.name): int(file.read_text().split()[0]) / 1e9 for file in files}
