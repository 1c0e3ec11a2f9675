"""Who holds the write lock, and what a waiter does about a worker that does not let go of it.

A worker process that was stopped or frozen (SIGSTOP, a debugger's leftover, a container's freezer)
while it held the lock would stop every other: after a quarter of its lease it is killed, as its own
supervisor would do later, and SQLite rolls its transaction back. A producer is somebody's program:
it is named, and left alone.

Two witnesses are asked, and neither depends on what the holder still came to do. The kernel's list of
locks says which process it is. That process's *card*, a file in memory whose name shows among its
descriptors from the opening of the database to its end, says what it is.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from typing import Final, NamedTuple

from cicely.engines.hostfacts import IS_LINUX, is_stopped, read_kernel_file, start_time

log = logging.getLogger("cicely")

#: Part of a lease after which a stopped worker is taken for stuck; a lease is 30 s by default.
LEASE_PART: Final = 0.25
DEFAULT_PATIENCE_S: Final = 30.0 * LEASE_PART

#: One that is not stopped may be slow (a disk that hangs), so it is given at least so long.
_FROZEN_S: Final = 5.0
#: Whoever did not look for so long may have been frozen itself, and begins to watch anew.
_GAP_S: Final = 2.0

_TURN_BYTES: Final = 8


class Holder(NamedTuple):
    """A process that holds up the others; `turn` is what it wrote into the lock file, if it came to that."""

    pid: int
    started: int
    is_stopped: bool
    turn: bytes


def open_card(role: str, lock: int, patience_s: float) -> int:
    """Show to others what this process is to the database of `lock`; -1 where that cannot be shown."""
    return os.memfd_create(f"{_card_of(lock)}{role}:{patience_s:g}") if IS_LINUX else -1


class Watch:
    """Looks again and again, over several waits, at who holds one of two files' locks."""

    def __init__(self, lock: int, turn: int) -> None:
        self._lock = lock
        self._turn = turn
        self._seen: Holder | None = None
        self._unchanged_since = 0.0
        self._looked_at = 0.0

    def look(self, path: str) -> None:
        """Look once; kill the holder where it is a worker that has kept the lock for too long."""
        holder = self._holder()
        now = time.monotonic()
        gap_s, self._looked_at = now - self._looked_at, now
        if holder is None or holder != self._seen or gap_s > _GAP_S:
            self._seen, self._unchanged_since = holder, now
            return
        patience_s = _patience_with(holder.pid, self._lock)
        if patience_s is None:
            return
        if now - self._unchanged_since >= (patience_s if holder.is_stopped else max(patience_s, _FROZEN_S)):
            self._kill(holder, path)

    def _holder(self) -> Holder | None:
        """Return who holds the lock; where it is free, who was stopped at the head of the queue."""
        pid = _locker_of(self._lock)
        if not pid:
            # One that is not stopped may well wait for a process that cannot be seen from here.
            pid = _locker_of(self._turn)
            pid = pid if pid and is_stopped(pid) else 0
        started = start_time(pid) if pid else None
        if started is None:
            return None
        return Holder(pid, started, is_stopped(pid), os.pread(self._lock, _TURN_BYTES, 0))

    def _kill(self, holder: Holder, path: str) -> None:
        """Kill it, unless it has let go or gone on meanwhile."""
        self._seen = None
        how = "stopped" if holder.is_stopped else "not moving"
        with contextlib.suppress(OSError):
            process = os.pidfd_open(holder.pid)
            try:
                if self._holder() == holder:
                    signal.pidfd_send_signal(process, signal.SIGKILL)
                    log.warning(
                        "killed worker process %d: it was %s while it held the write lock of %s",
                        holder.pid,
                        how,
                        path,
                    )
            finally:
                os.close(process)

    def complaint(self, path: str, waited_s: float) -> str:
        """Return the sentence for a caller who waited in vain."""
        holder = self._holder()
        sentence = f"the write lock of {path} was not free within {waited_s:g} s"
        if holder is None:
            return sentence
        state = ", which is stopped: continue it (kill -CONT) or end it" if holder.is_stopped else ""
        return f"{sentence}; it is held up by process {holder.pid}{state}"


def _locker_of(file: int) -> int:
    """Return the process that the kernel names as the owner of a file's flock; 0 for none in sight."""
    status = os.fstat(file)
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}".encode()
    with contextlib.suppress(OSError):
        # A /proc of another namespace counts pids that mean something else here.
        if os.readlink("/proc/self") != str(os.getpid()):
            return 0
        for line in read_kernel_file("/proc/locks").splitlines():
            fields = line.split()
            if fields[1:4] == [b"FLOCK", b"ADVISORY", b"WRITE"] and fields[5] == device:
                return max(0, int(fields[4]))
    return 0


def _patience_with(pid: int, lock: int) -> float | None:
    """Return how long a worker may hold this lock; None for what shows no worker's card."""
    title = f"/memfd:{_card_of(lock)}worker:"
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):
        for file in os.listdir(folder):
            with contextlib.suppress(OSError):
                shown = os.readlink(f"{folder}/{file}")
                if shown.startswith(title):
                    return float(shown.removeprefix(title).removesuffix(" (deleted)"))
    return None


def _card_of(lock: int) -> str:
    status = os.fstat(lock)
    return f"cicely:{status.st_dev}:{status.st_ino}:"
