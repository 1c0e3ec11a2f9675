"""Facts about processes, and how to end whole trees of them.

What cannot be asked portably is read from /proc. All functions take the answer "it is gone" for
granted at any moment: a process that ends while it is looked at counts as not there.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import time
from collections.abc import Collection

from cicely.engines.contract import Host
from cicely.engines.hostfacts import (
    IS_LINUX,
    is_stopped,
    pid_namespace,
    read_kernel_file,
    start_time,
    started_in,
    stat_fields,
)
from cicely.errors import Unsupported

__all__ = [
    "MARK_VARIABLE",
    "become_subreaper",
    "boottime",
    "children",
    "death_of",
    "descendants",
    "die_with",
    "is_alive",
    "is_stopped",
    "kill_marked",
    "kill_tree",
    "mark_of",
    "show_as",
    "start_time",
    "this_host",
    "tree_rss_bytes",
]

MARK_VARIABLE = "CICELY_WORKER"

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_KILL_BOUND_S = 5.0
_LEAVING_S = 0.001

#: In the `stat` of a thread: the states of one that has ended, and the flag of one that is ending.
_ENDED = (b"Z", b"X")
_PF_EXITING = 0x4

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36


def this_host() -> Host:
    """Return this process's host; outside Linux `boot_id` is empty, and no host sees it."""
    if not IS_LINUX:
        return Host(boot_id="", pid_ns=0, uid=os.getuid())
    boot_id = read_kernel_file("/proc/sys/kernel/random/boot_id").decode().strip()
    return Host(boot_id=boot_id, pid_ns=pid_namespace(), uid=os.getuid())


def boottime() -> float:
    """Return seconds since boot, time asleep included; the clock of every local deadline."""
    if not IS_LINUX:
        return time.monotonic()
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def is_alive(pid: int, started: int) -> bool:
    """Whether the process that started at `started` can still execute anything."""
    fields = stat_fields(pid)
    if not fields or started_in(fields) != started:
        return False
    # A zombie with more than one thread is a process whose main thread alone has ended.
    return fields[0] not in _ENDED or int(fields[17]) > 1


def children(pid: int) -> list[int]:
    """Return the direct children of a process, zombies included.

    Exact for the caller's own children while it reaps none; for others' a hint that may miss one
    while some end.
    """
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            found += map(int, read_kernel_file(f"/proc/{pid}/task/{thread}/children").split())
    except (FileNotFoundError, ProcessLookupError):
        if not _HAS_CHILDREN_FILES:
            return _children_by_scan(pid)
    return found


def descendants(pid: int) -> list[int]:
    """Return the processes below a process, parents before their children."""
    found: list[int] = []
    level = children(pid)
    while level:
        found += level
        level = [grandchild for child in level for grandchild in children(child)]
    return found


def tree_rss_bytes(pid: int) -> int:
    """Return the resident memory of a process and its descendants.

    Pages that several of them share count once for each: cheap and never too low.
    """
    return sum(map(_rss_bytes, [pid, *descendants(pid)]))


def kill_tree(pid: int) -> list[int]:
    """SIGKILL a process and its descendants of this moment, and return those that were hit.

    What they fork meanwhile is missed. Whoever is the subreaper above them repeats until nothing
    is left.
    """
    return [victim for victim in [pid, *descendants(pid)] if _sigkill(victim)]


def kill_marked(mark: str, *, spare: Collection[int] = ()) -> list[int]:
    """SIGKILL all processes of this user that carry a worker's mark, and return their pids.

    Returns once they have ended and no process carries the mark; the caller itself is spared. Nor does
    one hold its files and locks that was ending already, unless that takes longer than 5 s. Raises
    TimeoutError when some that were killed are still there after 5 s.
    """
    spared = {os.getpid(), *spare}
    killed: set[int] = set()
    give_up_at = boottime() + _KILL_BOUND_S
    while held := _hold_marked(mark, spared):
        try:
            for pidfd in held.values():
                _sigkill_held(pidfd)
            _await_ends(held, give_up_at)
        finally:
            for pidfd in held.values():
                os.close(pidfd)
        killed.update(held)
    _await_leaving(spared, give_up_at)
    return sorted(killed)


def mark_of(pid: int) -> str | None:
    """Return the mark of the worker a process belongs to; None without one, or if unreadable."""
    prefix = f"{MARK_VARIABLE}=".encode()
    try:
        variables = read_kernel_file(f"/proc/{pid}/environ").split(b"\0")
    except OSError:
        return None
    marks = (entry.removeprefix(prefix) for entry in variables if entry.startswith(prefix))
    return next((mark.decode(errors="replace") for mark in marks), None)


def become_subreaper() -> None:
    """Make this process the parent of all its descendants' orphans."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with(parent: int) -> None:
    """Have the kernel SIGKILL this process when the thread that forked it, in `parent`, ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        # It ended before the kernel was asked.
        os.kill(os.getpid(), signal.SIGKILL)


def show_as(name: str) -> None:
    """Set the name under which `ps` and `top` show this process; 15 bytes are kept."""
    _prctl(_PR_SET_NAME, ctypes.create_string_buffer(name.encode()[:15]))


def _hold_marked(mark: str, spared: Collection[int]) -> dict[int, int]:
    """Return pid and pidfd of every living process with this mark."""
    held: dict[int, int] = {}
    for pid in _pids():
        if pid in spared or not _is_ours(pid) or mark_of(pid) != mark:
            continue
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        # Read again, now that the descriptor exists: only then both name the same process.
        if mark_of(pid) == mark:
            held[pid] = pidfd
        else:
            os.close(pidfd)
    return held


def _await_ends(held: dict[int, int], give_up_at: float) -> None:
    waiting = {pidfd: pid for pid, pidfd in held.items()}
    poller = select.poll()
    for pidfd in waiting:
        poller.register(pidfd, select.POLLIN)
    while waiting:
        remaining_s = give_up_at - boottime()
        if remaining_s <= 0:
            raise TimeoutError(f"processes {sorted(waiting.values())} were killed and do not end")
        for pidfd, _ in poller.poll(remaining_s * 1000):
            poller.unregister(pidfd)
            del waiting[pidfd]


def _await_leaving(spared: Collection[int], give_up_at: float) -> None:
    """Wait for processes of this user in the midst of their end, whose mark cannot be read any more.

    A process gives back its memory before its files and locks, and that may take a while.
    """
    leaving = [pid for pid in _pids() if pid not in spared and _is_ours(pid) and _is_leaving(pid)]
    while leaving and boottime() < give_up_at:
        time.sleep(_LEAVING_S)
        leaving = [pid for pid in leaving if _is_leaving(pid)]


def _is_leaving(pid: int) -> bool:
    try:
        threads = [] if _has_memory(pid) else os.listdir(f"/proc/{pid}/task")
    except OSError:
        return False
    found = [stat_fields(int(thread)) for thread in threads]
    return any(fields[0] not in _ENDED and int(fields[6]) & _PF_EXITING for fields in found if fields)


def _has_memory(pid: int) -> bool:
    try:
        return bool(read_kernel_file(f"/proc/{pid}/environ"))
    except ProcessLookupError:
        # The file is there, and nothing behind it.
        return False


def _sigkill_held(pidfd: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def _sigkill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _is_ours(pid: int) -> bool:
    try:
        return os.stat(f"/proc/{pid}").st_uid == os.getuid()
    except OSError:
        return False


def _pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def _children_by_scan(parent: int) -> list[int]:
    wanted = str(parent).encode()
    return [pid for pid in _pids() if (fields := stat_fields(pid)) and fields[1] == wanted]


def _rss_bytes(pid: int) -> int:
    try:
        return int(read_kernel_file(f"/proc/{pid}/statm").split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        return 0


def _prctl(option: int, argument: int | ctypes.Array[ctypes.c_char]) -> None:
    if not IS_LINUX:
        raise Unsupported("workers need Linux: only its subreapers can end whole process trees")
    if ctypes.CDLL(None, use_errno=True).prctl(option, argument, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")


# A kernel without CONFIG_PROC_CHILDREN has no such files.
_HAS_CHILDREN_FILES = os.path.exists(f"/proc/self/task/{os.getpid()}/children")


def death_of(status: int) -> str:
    """Say in words how a process ended: its exit code, or minus the signal that killed it."""
    if status >= 0:
        return f"exited with {status}"
    name = signal.Signals(-status).name if -status in signal.valid_signals() else "unknown"
    return f"killed by signal {-status} ({name})"
