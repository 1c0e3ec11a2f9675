"""The board: memory that a child and its supervisor share.

The child writes which attempts run, under which limits, and which claims it holds; the supervisor
reads it at any time, also when the child hangs, holds the GIL or is dead. The supervisor writes
the instant up to which the child may work. Every field has one writer, except a slot's verdict
(written by the supervisor when it kills an isolated attempt, cleared by the child at its start).
Instants are CLOCK_BOOTTIME.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
from collections.abc import Collection
from typing import Final

import msgspec

#: For this share of a lease a claim may start without being asked for again. A beat that takes back what
#: it and the last one did not name is sent later than that after the answer to the last.
STARTS_WITHIN: Final = 1 / 4

_HEADER: Final = 128
_SLOT: Final = 128
_TOKEN: Final = 16
_MAX_HELD: Final = 4096

#: The numbers of the header, in order. Native and aligned: another process sees each of them whole.
_NUMBER: Final = 8
_DEADLINE_AT: Final = 0
_STARTS: Final = 1
_HELD_VERSION: Final = 2
_HELD_COUNT: Final = 3
_DONE: Final = 4
_STARTS_LOOP: Final = 5

#: token, started_at, deadline_at, stall_s, touched_at, memory, the waits after each limit, pid, job
_RECORD: Final = struct.Struct("@16sdddd Qddd I 32s")
_NAME_BYTES: Final = 32
_STATE: Final = 120
_VERDICT: Final = 121
_TOUCHED: Final = 16 + 8 * 3
_PID: Final = 16 + 8 * 8

FREE: Final = 0
RUNNING: Final = 1

#: A wait of NaN on the board is "do not retry".
NEVER: Final = math.nan


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt as it stands on the board; 0 means "no limit", `pid` 0 "in the child itself".

    `*_retry_s` is the wait before the next attempt should that limit be passed, None to give up.
    `job_name` is what the function of this name makes of the job's id, for people who look.
    """

    slot: int
    token: bytes
    started_at: float
    deadline_at: float = 0.0
    stall_s: float = 0.0
    touched_at: float = 0.0
    memory_bytes: int = 0
    timeout_retry_s: float | None = None
    stall_retry_s: float | None = None
    memory_retry_s: float | None = None
    pid: int = 0
    job_name: bytes = b""

    @property
    def is_limited(self) -> bool:
        """Whether somebody has to watch it."""
        return bool(self.deadline_at or self.stall_s or self.memory_bytes)


class Board:
    """One child's board, over a file descriptor that both processes hold."""

    def __init__(self, fd: int, *, threads: int, coroutines: int) -> None:
        self.fd = fd
        self.slots = slots = threads + coroutines
        self._threads = threads
        self._memory = mmap.mmap(fd, _size(slots))
        # Single numbers are read and written as items of these: each is one load or store as well.
        self._bytes = memoryview(self._memory)
        self._counts = self._bytes.cast("Q")
        self._doubles = self._bytes.cast("d")
        self._held = _HEADER + slots * _SLOT

    @classmethod
    def of(cls, fd: int) -> Board:
        """Look at the board behind a descriptor, from outside: only `running` and `held` are of use."""
        slots = (os.fstat(fd).st_size - _size(0)) // _SLOT
        return cls(fd, threads=slots, coroutines=0)

    @classmethod
    def create(cls, *, threads: int, coroutines: int) -> Board:
        """Make a board for so many plain attempts and so many coroutines at once."""
        fd = os.memfd_create("cicely-board", os.MFD_CLOEXEC)
        os.ftruncate(fd, _size(threads + coroutines))
        return cls(fd, threads=threads, coroutines=coroutines)

    def close(self) -> None:
        """Give the memory back."""
        for view in (self._counts, self._doubles, self._bytes):
            view.release()
        self._memory.close()
        os.close(self.fd)

    # --- written by the supervisor -----------------------------------------------------------
    @property
    def deadline_at(self) -> float:
        """The instant after which the child must start nothing more."""
        return self._doubles[_DEADLINE_AT]

    @deadline_at.setter
    def deadline_at(self, at: float) -> None:
        self._doubles[_DEADLINE_AT] = at

    def judge(self, slot: int, verdict: int) -> None:
        """Say why the isolated attempt in `slot` is being killed."""
        self._memory[_HEADER + slot * _SLOT + _VERDICT] = verdict

    # --- written by the child ----------------------------------------------------------------
    def start(self, slot: int, token: bytes, at: float, *, job_name: bytes = b"") -> None:
        """Put an attempt without limits on the board."""
        offset = _HEADER + slot * _SLOT
        _RECORD.pack_into(self._memory, offset, token, at, 0.0, 0.0, at, 0, NEVER, NEVER, NEVER, 0, job_name)
        self._show(slot, offset)

    def start_limited(self, running: Running) -> None:
        """Put an attempt with limits on the board."""
        offset = _HEADER + running.slot * _SLOT
        _RECORD.pack_into(
            self._memory,
            offset,
            running.token,
            running.started_at,
            running.deadline_at,
            running.stall_s,
            running.started_at,
            running.memory_bytes,
            _wait(running.timeout_retry_s),
            _wait(running.stall_retry_s),
            _wait(running.memory_retry_s),
            running.pid,
            running.job_name,
        )
        self._show(running.slot, offset)

    def _show(self, slot: int, offset: int) -> None:
        self._bytes[offset + _VERDICT] = 0
        # Last: whoever sees RUNNING sees the whole record.
        self._bytes[offset + _STATE] = RUNNING
        self._counts[_STARTS if slot < self._threads else _STARTS_LOOP] += 1

    def set_pid(self, slot: int, pid: int) -> None:
        """Name the process of the isolated attempt in `slot`."""
        struct.pack_into("@I", self._memory, _HEADER + slot * _SLOT + _PID, pid)

    def touch(self, slot: int, at: float) -> None:
        """Note a sign of life of the attempt in `slot`."""
        self._doubles[(_HEADER + slot * _SLOT + _TOUCHED) // _NUMBER] = at

    def clear(self, slot: int) -> None:
        """Take the attempt in `slot` off the board: its user code runs no more."""
        self._bytes[_HEADER + slot * _SLOT + _STATE] = FREE

    def hold(self, tokens: Collection[bytes]) -> None:
        """List the claims that the child knows of."""
        held = b"".join(tokens)[: _MAX_HELD * _TOKEN]
        self._counts[_HELD_VERSION] += 1
        self._counts[_HELD_COUNT] = len(held) // _TOKEN
        self._bytes[self._held : self._held + len(held)] = held
        self._counts[_HELD_VERSION] += 1

    def finished(self, jobs: int) -> None:
        """Say how many attempts the child has ended so far."""
        self._counts[_DONE] = jobs

    # --- read by either ----------------------------------------------------------------------
    @property
    def starts(self) -> tuple[int, int]:
        """How many attempts the child has started so far: in threads, and on its loop."""
        return self._counts[_STARTS], self._counts[_STARTS_LOOP]

    @property
    def done(self) -> int:
        """How many attempts the child has ended so far."""
        return self._counts[_DONE]

    def verdict(self, slot: int) -> int:
        """Return why the supervisor killed the attempt in `slot` (0: it did not)."""
        return self._memory[_HEADER + slot * _SLOT + _VERDICT]

    def running(self) -> list[Running]:
        """Return the attempts whose user code runs, by slot."""
        return [
            self._read(slot)
            for slot in range(self.slots)
            if self._memory[_HEADER + slot * _SLOT + _STATE] == RUNNING
        ]

    def _read(self, slot: int) -> Running:
        fields = _RECORD.unpack_from(self._memory, _HEADER + slot * _SLOT)
        token, started_at, deadline_at, stall_s, touched_at, memory_bytes = fields[:6]
        return Running(
            slot=slot,
            token=token,
            started_at=started_at,
            deadline_at=deadline_at,
            stall_s=stall_s,
            touched_at=touched_at,
            memory_bytes=memory_bytes,
            timeout_retry_s=_unwait(fields[6]),
            stall_retry_s=_unwait(fields[7]),
            memory_retry_s=_unwait(fields[8]),
            pid=fields[9],
            job_name=fields[10].rstrip(b"\0"),
        )

    def held(self) -> frozenset[bytes] | None:
        """Return the claims that the child knows of; None while it is writing the list."""
        for _ in range(100):
            before = self._counts[_HELD_VERSION]
            count = self._counts[_HELD_COUNT]
            data = self._memory[self._held : self._held + count * _TOKEN]
            after = self._counts[_HELD_VERSION]
            if before == after and before % 2 == 0:
                return frozenset(data[i : i + _TOKEN] for i in range(0, len(data), _TOKEN))
        return None


def job_name(job_id: str) -> bytes:
    """Return the end of a job's id, by which the board names the job (the whole of a generated one)."""
    return job_id.encode("utf-8", "replace")[-_NAME_BYTES:]


def _size(slots: int) -> int:
    return _HEADER + slots * _SLOT + _MAX_HELD * _TOKEN


def _wait(seconds: float | None) -> float:
    return NEVER if seconds is None else seconds


def _unwait(seconds: float) -> float | None:
    return None if math.isnan(seconds) else seconds
