"""Bells: how a commit in one process wakes a waiting one.

Each waiter binds an abstract datagram socket and writes its name into a slot of the file
`<database>-bells`. The file begins with one byte per slot that says whether the slot is armed, so
that ringing costs one small read where nobody waits. All of it is a hint: a lost ring delays work
until the waiter looks for itself, and nothing else.

The file is read and written by pread and pwrite alone; taking and freeing slots is serialised by a
lock on it, arming is the owner's alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import sys
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Final

SLOTS: Final = 1_024

FREE: Final = 0
IDLE: Final = 1
SESSION_ARMED: Final = 2
RESULT_ARMED: Final = 3

#: A process waits for results with so many bells at most, so that others find slots; then it polls.
_MOST_AWAITING: Final = 64
#: Where a slot's `where` begins to name the boot.
_BOOT_SHIFT: Final = 32

_WORDS: Final = 24
_RECORD: Final = struct.Struct(f"<Q 32s 80s {_WORDS}Q")
_RECORD_BYTES: Final = _RECORD.size
_BITS: Final = 64 * _WORDS
_FILE_BYTES: Final = SLOTS * (1 + _RECORD_BYTES)


class Slot:
    """What is written in a slot: where its waiter is, its socket's name, and what it waits for."""

    __slots__ = ("owner", "sieve", "socket_name", "where")

    def __init__(self, where: int, socket_name: bytes, owner: str, sieve: tuple[int, ...]) -> None:
        self.where = where
        self.socket_name = socket_name
        self.owner = owner
        self.sieve = sieve

    @classmethod
    def unpacked(cls, data: bytes) -> Slot | None:
        """Read what `packed` wrote; None for what nobody wrote."""
        if len(data) != _RECORD_BYTES:
            return None
        where, name, owner, *sieve = _RECORD.unpack(data)
        return cls(where, name.rstrip(b"\0"), owner.rstrip(b"\0").decode(errors="replace"), tuple(sieve))

    def packed(self) -> bytes:
        """Return the record's bytes."""
        return _RECORD.pack(self.where, self.socket_name, self.owner.encode(), *self.sieve)

    def awaits(self, bits: Collection[int]) -> bool:
        """Return whether one of these jobs may be awaited here."""
        return any(self.sieve[bit >> 6] >> (bit & 63) & 1 for bit in bits)


def owner_key(owner: str) -> str:
    """Return a session's id as slots hold it."""
    if len(owner.encode()) <= 80:  # noqa: PLR2004  (the record's width)
        return owner
    return f"{zlib.crc32(owner.encode()):08x}{owner[-40:]!a}"


def bit_of(job_id: str) -> int:
    """Return the bit of a slot's sieve that stands for a job; several jobs may share one."""
    return zlib.crc32(job_id.encode()) % _BITS


def sieve_of(job_ids: Collection[str]) -> tuple[int, ...]:
    """Return the sieve that lets these jobs through."""
    words = [0] * _WORDS
    for bit in map(bit_of, job_ids):
        words[bit >> 6] |= 1 << (bit & 63)
    return tuple(words)


class Bells:
    """The slots of one database, as one process sees them."""

    def __init__(self, path: str) -> None:
        self._where = _here()
        self._own: dict[str, int] = {}
        self._awaiting = 0
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        if os.fstat(self._file).st_size < _FILE_BYTES:
            os.ftruncate(self._file, _FILE_BYTES)
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if self._where else None
        if self._sender is not None:
            self._sender.setblocking(False)

    @property
    def are_here(self) -> bool:
        """Whether this system can ring at all."""
        return self._sender is not None

    def close(self) -> None:
        """Let go of the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if self._sender is not None:
            self._sender.close()
            self._sender = None

    # --- ringing --------------------------------------------------------------------------
    def armed(self, kind: int) -> list[int]:
        """Return the slots of a kind whose owners wait."""
        states = os.pread(self._file, SLOTS, 0)
        mark = bytes((kind,))
        at = states.find(mark)
        found = []
        while at >= 0:
            found.append(at)
            at = states.find(mark, at + 1)
        return found

    def slot(self, index: int) -> Slot | None:
        """Return what is written in a slot, if its owner is within reach."""
        slot = self._written(index)
        return slot if slot is not None and slot.where == self._where else None

    def _written(self, index: int) -> Slot | None:
        return Slot.unpacked(os.pread(self._file, _RECORD_BYTES, _offset(index)))

    def ring(self, index: int, slot: Slot) -> bool:
        """Wake a slot's owner; False where there is none any more."""
        if self._sender is None:
            return False
        self.mark(index, IDLE)
        try:
            self._sender.sendto(b"!", slot.socket_name)
        except BlockingIOError:
            return True  # It has rings that it did not look at yet.
        except OSError:
            self._free_dead(index, slot)
            return False
        return True

    def ring_results(self, job_ids: Collection[str]) -> None:
        """Wake those who wait for one of these jobs."""
        waiting = self.armed(RESULT_ARMED)
        if not waiting:
            return
        bits = {bit_of(job_id) for job_id in job_ids}
        for index in waiting:
            slot = self.slot(index)
            if slot is not None and slot.awaits(bits):
                self.ring(index, slot)

    def ring_owners(self, owners: Collection[str]) -> None:
        """Wake these sessions."""
        keys = {owner_key(owner) for owner in owners}
        for index in self.armed(SESSION_ARMED):
            slot = self.slot(index)
            if slot is not None and slot.owner in keys:
                self.ring(index, slot)

    # --- slots ----------------------------------------------------------------------------
    def mark(self, index: int, state: int) -> None:
        """Write a slot's state."""
        if self._file >= 0:
            os.pwrite(self._file, bytes((state,)), index)

    def take(self, owner: str, job_ids: Collection[str]) -> tuple[int, socket.socket] | None:
        """Take a free slot and bind its socket; None where there is none."""
        if self._sender is None or (job_ids and self._awaiting >= _MOST_AWAITING):
            return None
        name = b"\0cicely-" + os.urandom(8).hex().encode()
        ear = _bound(name)
        if ear is None:
            return None
        slot = Slot(self._where, name, owner_key(owner), sieve_of(job_ids))
        with self._alone():
            index = self._free_index()
            if index < 0:
                ear.close()
                return None
            os.pwrite(self._file, slot.packed(), _offset(index))
            self.mark(index, IDLE)
        if job_ids:
            self._awaiting += 1
        else:
            self._own[slot.owner] = index
        return index, ear

    def give_back(self, index: int, owner: str) -> None:
        """Free one's own slot."""
        if owner:
            self._own.pop(owner_key(owner), None)
        else:
            self._awaiting -= 1
        self.mark(index, FREE)

    def index_of(self, owner: str) -> int:
        """Return the slot of a session of this process, -1 where it has none."""
        return self._own.get(owner, -1)

    def _free_index(self) -> int:
        index = os.pread(self._file, SLOTS, 0).find(bytes((FREE,)))
        return index if index >= 0 else self._reclaimed()

    def _reclaimed(self) -> int:
        """Return the first slot whose owner is gone, -1 where all live."""
        for index in range(SLOTS):
            slot = self._written(index)
            if slot is None or self._is_gone(slot):
                return index
        return -1

    def _is_gone(self, slot: Slot) -> bool:
        if slot.where == self._where:
            return not _listens(slot.socket_name)
        # Nobody outlives a boot; those of another namespace of this one cannot be asked.
        return slot.where >> _BOOT_SHIFT != self._where >> _BOOT_SHIFT

    def _free_dead(self, index: int, slot: Slot) -> None:
        with self._alone():
            now = self.slot(index)
            if now is not None and now.socket_name == slot.socket_name:
                self.mark(index, FREE)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)


class SqliteBell:
    """A slot and its socket; without either `fileno` is -1, and the owner polls."""

    def __init__(self, bells: Bells, owner: str, job_ids: Collection[str] = ()) -> None:
        self._bells = bells
        self._owner = owner
        self._armed_state = RESULT_ARMED if job_ids else SESSION_ARMED
        self._pid = os.getpid()
        taken = bells.take(owner, job_ids)
        self.index = taken[0] if taken is not None else -1
        self._ear = taken[1] if taken is not None else None

    def fileno(self) -> int:
        """Return the socket."""
        return self._ear.fileno() if self._ear is not None else -1

    def arm(self) -> None:
        """Be rung from now on."""
        if self._ear is not None:
            self._bells.mark(self.index, self._armed_state)

    def disarm(self) -> None:
        """Be rung no more, and forget the rings so far."""
        if self._ear is None:
            return
        self._bells.mark(self.index, IDLE)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._ear.recv(16)

    def close(self) -> None:
        """Free the slot, unless this is a forked copy: then only let go of the socket."""
        ear, self._ear = self._ear, None
        if ear is None:
            return
        if self._pid == os.getpid():
            self._bells.give_back(self.index, self._owner)
        ear.close()


def _offset(index: int) -> int:
    return SLOTS + index * _RECORD_BYTES


def _bound(name: bytes) -> socket.socket | None:
    """Return a socket of this name; None where the process has too many open files for one more."""
    try:
        ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    except OSError:
        return None
    ear.setblocking(False)
    ear.bind(name)
    return ear


def _listens(socket_name: bytes) -> bool:
    try:
        probe = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    except OSError:
        return True  # There is no socket left to ask with.
    with probe:
        try:
            probe.connect(socket_name)
        except OSError:
            return False
        return True


def _here() -> int:
    """Return a number for the network namespace of this boot, 0 where there are no abstract names."""
    if sys.platform != "linux":
        return 0
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id", "rb") as file:
        boot_id = file.read()
        return zlib.crc32(boot_id) << _BOOT_SHIFT | os.stat("/proc/self/ns/net").st_ino & 0xFFFFFFFF
    return 0
