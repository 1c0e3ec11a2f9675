"""The hand-over: claims that were taken ahead and not started yet.

A pipe of 16-byte records, one token each. Whoever reads a record owns that claim: the child to
start it, or the supervisor to give it back. The kernel hands each record to one reader, so a claim
is never started and given back as well, whatever the two processes do at the same time.
"""

from __future__ import annotations

import fcntl
import os
import termios
from collections.abc import Iterable
from typing import Final

RECORD_BYTES: Final = 16

#: A record that is no claim: it tells one reading thread of the child to stop.
STOP: Final = bytes(RECORD_BYTES)


class Handover:
    """One pipe, known to the child by both ends and to the supervisor by the reading one."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self.read_fd = read_fd
        self.write_fd = write_fd

    @classmethod
    def create(cls) -> Handover:
        """Make the pipe; both ends may be passed to the child."""
        return cls(*os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK))

    def put(self, tokens: Iterable[bytes]) -> None:
        """Hand claims over, oldest first. At most 4,000 fit at a time, more than a child holds."""
        data = b"".join(tokens)
        # Up to 4,096 bytes (PIPE_BUF) are written whole or not at all, and never mixed.
        for start in range(0, len(data), 4096):
            os.write(self.write_fd, data[start : start + 4096])

    def take(self) -> bytes | None:
        """Return the next claim's token, which is now the caller's alone; None if there is none."""
        try:
            return os.read(self.read_fd, RECORD_BYTES) or None
        except BlockingIOError:
            return None

    def take_all(self) -> list[bytes]:
        """Return every claim that nobody has started yet; a STOP stays for whoever is to stop."""
        tokens: list[bytes] = []
        while (token := self.take()) is not None:
            if token == STOP:
                self.put([STOP])
                break
            tokens.append(token)
        return tokens

    @property
    def is_waiting(self) -> bool:
        """Whether there are claims that nobody has started yet."""
        waiting = bytearray(4)
        fcntl.ioctl(self.read_fd, termios.FIONREAD, waiting)
        return waiting != b"\0\0\0\0"

    def close(self) -> None:
        """Close both ends in this process."""
        os.close(self.read_fd)
        os.close(self.write_fd)
