"""Who holds the write lock, and what a waiter does about one that is stopped.

A worker process that was stopped (SIGSTOP, a debugger's leftover) while it held the lock would stop
every other: after a quarter of its lease it is killed, as its own supervisor would do later, and
SQLite rolls its transaction back. A producer is somebody's program: it is named, and left alone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import struct
import sys
import time
from typing import Final, NamedTuple

log = logging.getLogger("cicely")

#: Part of a lease after which a stopped worker is taken for stuck; a lease is 30 s by default.
LEASE_PART: Final = 0.25
_DEFAULT_PATIENCE_S: Final = 30.0 * LEASE_PART

_STAMP: Final = struct.Struct("<8s q q q d Q")
_MAGIC: Final = b"cicely-1"
_ROLES: Final = {"producer": 0, "worker": 1}
_STARTED_FIELD: Final = 19


class Holder(NamedTuple):
    """A process as it signs the lock file."""

    pid: int
    started: int
    is_worker: bool
    patience_s: float
    namespace: int

    @classmethod
    def here(cls, role: str, patience_s: float) -> Holder:
        """Return this process."""
        pid = os.getpid()
        return cls(pid, _started(pid), bool(_ROLES[role]), patience_s, _pid_namespace())

    @classmethod
    def of(cls, file: int) -> Holder | None:
        """Read who signed last; None where nobody did."""
        data = os.pread(file, _STAMP.size, 0)
        if len(data) != _STAMP.size or not data.startswith(_MAGIC):
            return None
        _, pid, started, role, patience_s, namespace = _STAMP.unpack(data)
        return cls(pid, started, bool(role), patience_s, namespace)

    def packed(self) -> bytes:
        """Return the bytes that are signed with."""
        return _STAMP.pack(_MAGIC, self.pid, self.started, self.is_worker, self.patience_s, self.namespace)

    @property
    def is_within_sight(self) -> bool:
        """Whether its pid means the same process here."""
        return self.namespace == _pid_namespace() != 0

    @property
    def is_stopped(self) -> bool:
        """Whether it is this very process, and stopped."""
        fields = _stat(self.pid)
        return bool(fields) and fields[0] == b"T" and int(fields[_STARTED_FIELD]) == self.started


class Watch:
    """Looks at the holder of a lock file again and again, over several waits."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._seen: Holder | None = None
        self._stopped_since = 0.0
        self.patience_s = _DEFAULT_PATIENCE_S

    def look(self, path: str) -> None:
        """Look once; kill the holder where it is a worker that was stopped for too long."""
        holder = Holder.of(self._file)
        if holder is None or not holder.is_within_sight or not holder.is_stopped:
            self._seen = None
            return
        now = time.monotonic()
        if holder != self._seen:
            self._seen, self._stopped_since = holder, now
            return
        if holder.is_worker and now - self._stopped_since >= holder.patience_s:
            self._kill(holder, path)

    def _kill(self, holder: Holder, path: str) -> None:
        """Kill it, unless it has let go or gone on meanwhile."""
        self._seen = None
        with contextlib.suppress(OSError):
            process = os.pidfd_open(holder.pid)
            try:
                if holder.is_stopped and _holds(holder.pid, self._file):
                    signal.pidfd_send_signal(process, signal.SIGKILL)
                    log.warning(
                        "killed worker process %d: it was stopped while it held the write lock of %s",
                        holder.pid,
                        path,
                    )
            finally:
                os.close(process)

    def complaint(self, path: str, waited_s: float) -> str:
        """Return the sentence for a caller who waited in vain."""
        holder = Holder.of(self._file)
        if holder is None:
            return f"the write lock of {path} was not free within {waited_s:g} s"
        stopped = holder.is_within_sight and holder.is_stopped
        state = ", which is stopped: continue it (kill -CONT) or end it" if stopped else ""
        return (
            f"the write lock of {path} was not free within {waited_s:g} s; it was last taken by "
            f"process {holder.pid}{state}"
        )


def _holds(pid: int, file: int) -> bool:
    """Return whether the kernel says that a process has the file's flock."""
    status = os.fstat(file)
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    with open("/proc/locks", encoding="ascii") as locks:
        for line in locks:
            fields = line.split()
            if fields[1:4] == ["FLOCK", "ADVISORY", "WRITE"] and fields[4:6] == [str(pid), device]:
                return True
    return False


def _stat(pid: int) -> list[bytes]:
    """Return the fields of /proc/<pid>/stat from the state on; [] where there is no such process."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()
    return []


def _started(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[_STARTED_FIELD]) if fields else 0


def _pid_namespace() -> int:
    if sys.platform != "linux":
        return 0
    with contextlib.suppress(OSError):
        return os.stat("/proc/self/ns/pid").st_ino
    return 0
