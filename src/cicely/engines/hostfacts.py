"""What the kernel says of a process: its state, its start, its namespace. Engines and workers ask.

All functions take the answer "it is gone" for granted at any moment.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Final

IS_LINUX: Final = sys.platform == "linux"

_STARTED_FIELD: Final = 19


def stat_fields(pid: int) -> list[bytes]:
    """Return the fields of /proc/<pid>/stat from the third, the state, on; none without it."""
    try:
        text = read_kernel_file(f"/proc/{pid}/stat")
    except OSError:
        return []
    # The name before it stands in parentheses and may itself contain any character.
    return text[text.rindex(b")") + 2 :].split()


def started_in(fields: list[bytes]) -> int:
    """Return when a process started, in clock ticks since boot, from its `stat_fields`."""
    return int(fields[_STARTED_FIELD])


def start_time(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; with its pid this names it.

    None when there is no such process.
    """
    fields = stat_fields(pid)
    return started_in(fields) if fields else None


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal or a debugger."""
    fields = stat_fields(pid)
    return bool(fields) and fields[0] in (b"T", b"t")


def pid_namespace() -> int:
    """Return a number for the namespace that this process's pids belong to; 0 where there is none."""
    if IS_LINUX:
        with contextlib.suppress(OSError):
            return os.stat("/proc/self/ns/pid").st_ino
    return 0


def read_kernel_file(path: str) -> bytes:
    """Return what a file of /proc says now."""
    # Without the layers of open(): this runs twenty times a second for every limited attempt.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.read(fd, 65536)
        while part := os.read(fd, 65536):
            text += part
        return text
    finally:
        os.close(fd)
