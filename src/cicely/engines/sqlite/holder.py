"""Who holds the write lock, and what a waiter does about one that does not let go of it.

A worker process that was stopped or frozen (SIGSTOP, a debugger's leftover, a container's freezer)
while it held the lock would stop every other: after a quarter of its lease it is killed, as its own
supervisor would do later, and SQLite rolls its transaction back. A producer is somebody's program:
it is named, and left alone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import struct
import time
from typing import Final, NamedTuple

from cicely.engines.hostfacts import is_stopped, pid_namespace, start_time

log = logging.getLogger("cicely")

#: Part of a lease after which a stopped worker is taken for stuck; a lease is 30 s by default.
LEASE_PART: Final = 0.25
_DEFAULT_PATIENCE_S: Final = 30.0 * LEASE_PART

#: One that is not stopped may be slow (a disk that hangs), so it is given at least so long.
_FROZEN_S: Final = 5.0
#: Whoever did not look for so long may have been frozen itself, and begins to watch anew.
_GAP_S: Final = 2.0

_STAMP: Final = struct.Struct("<8s q q q d Q Q")
_MAGIC: Final = b"cicely-2"
_ROLES: Final = {"producer": 0, "worker": 1}


class Holder(NamedTuple):
    """A process as it signs the lock file, at its `turn`-th turn."""

    pid: int
    started: int
    is_worker: bool
    patience_s: float
    namespace: int
    turn: int = 0

    @classmethod
    def here(cls, role: str, patience_s: float) -> Holder:
        """Return this process."""
        pid = os.getpid()
        return cls(pid, start_time(pid) or 0, bool(_ROLES[role]), patience_s, pid_namespace())

    @classmethod
    def of(cls, file: int) -> Holder | None:
        """Read who signed last; None where nobody did."""
        data = os.pread(file, _STAMP.size, 0)
        if len(data) != _STAMP.size or not data.startswith(_MAGIC):
            return None
        _, pid, started, role, patience_s, namespace, turn = _STAMP.unpack(data)
        return cls(pid, started, bool(role), patience_s, namespace, turn)

    def packed(self) -> bytes:
        """Return the bytes that are signed with."""
        return _STAMP.pack(
            _MAGIC, self.pid, self.started, self.is_worker, self.patience_s, self.namespace, self.turn
        )

    @property
    def is_within_sight(self) -> bool:
        """Whether its pid means the same process here."""
        return self.namespace == pid_namespace() != 0

    @property
    def is_there(self) -> bool:
        """Whether it is this very process that has its pid now."""
        return start_time(self.pid) == self.started

    @property
    def is_stopped(self) -> bool:
        """Whether it is this very process, and stopped."""
        return self.is_there and is_stopped(self.pid)


class Watch:
    """Looks at the holder of a lock file again and again, over several waits."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._seen: Holder | None = None
        self._was_stopped = False
        self._unchanged_since = 0.0
        self._looked_at = 0.0
        self.patience_s = _DEFAULT_PATIENCE_S

    def look(self, path: str) -> None:
        """Look once; kill the holder where it is a worker that has kept the lock for too long."""
        holder = Holder.of(self._file)
        now = time.monotonic()
        gap_s, self._looked_at = now - self._looked_at, now
        if holder is None or not holder.is_worker or not holder.is_within_sight:
            self._seen = None
            return
        stopped = holder.is_stopped
        if holder != self._seen or stopped != self._was_stopped or gap_s > _GAP_S:
            self._seen, self._was_stopped, self._unchanged_since = holder, stopped, now
            return
        patience_s = holder.patience_s if stopped else max(holder.patience_s, _FROZEN_S)
        if now - self._unchanged_since >= patience_s:
            self._kill(holder, path)

    def _kill(self, holder: Holder, path: str) -> None:
        """Kill it, unless it has let go or gone on meanwhile."""
        self._seen = None
        how = "stopped" if self._was_stopped else "not moving"
        with contextlib.suppress(OSError):
            process = os.pidfd_open(holder.pid)
            try:
                if self._is_as_seen(holder) and _holds(holder.pid, self._file):
                    signal.pidfd_send_signal(process, signal.SIGKILL)
                    log.warning(
                        "killed worker process %d: it was %s while it held the write lock of %s",
                        holder.pid,
                        how,
                        path,
                    )
            finally:
                os.close(process)

    def _is_as_seen(self, holder: Holder) -> bool:
        return holder.is_there and holder.is_stopped == self._was_stopped and Holder.of(self._file) == holder

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
