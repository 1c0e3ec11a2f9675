"""Where jobs of every system write down that they ran: one record per append to one file.

An append is whole whoever else writes, survives a fork and the death of its process, and asks no
server: what is measured with it is measured in the same way for all.
"""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path
from typing import Final, NamedTuple

FILE_VARIABLE: Final = "BENCH_LEDGER"

_RECORD: Final = struct.Struct("<qqdd")
RECORD_BYTES: Final = _RECORD.size
_BARE: Final = _RECORD.pack(-1, 0, 0.0, 0.0)
_fds: dict[str, int] = {}


class Entry(NamedTuple):
    """Which job ran in which process between which instants; `ended_at` is 0 where it only began."""

    number: int
    pid: int
    began_at: float
    ended_at: float


def now() -> float:
    """Return seconds since the machine started: the same clock in every process."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def mark() -> None:
    """Write down that a job ran, at the least cost."""
    os.write(_fd(), _BARE)


def write(entry: Entry) -> None:
    """Write down what is known of a job."""
    os.write(_fd(), _RECORD.pack(*entry))


def _fd() -> int:
    path = os.environ[FILE_VARIABLE]
    if path not in _fds:
        _fds[path] = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o666)
    return _fds[path]


def count(path: Path) -> int:
    """Return how many records there are."""
    return path.stat().st_size // RECORD_BYTES


def entries(path: Path) -> list[Entry]:
    """Return those that say more than that a job ran."""
    content = path.read_bytes()
    whole = memoryview(content)[: len(content) // RECORD_BYTES * RECORD_BYTES]
    return [Entry(*fields) for fields in _RECORD.iter_unpack(whole) if fields[0] >= 0]
