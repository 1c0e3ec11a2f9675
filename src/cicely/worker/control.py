"""What the supervisor and a child say to each other, over a pair of sockets of their own."""

from __future__ import annotations

import socket
from collections.abc import Mapping

import msgspec

from cicely.core.resources import Amounts


class Begin(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """Supervisor to child, as the spec of its fork: who it is and what it may do.

    `groups` are the queues with their weights, see `core.intake.Turns`. `threads` run plain
    functions, up to `coroutines` run at once on the loop. `max_jobs` 0 is "no limit". `cgroup` is the
    worker's folder of control groups, "" where memory limits are sampled.
    """

    session_id: str
    worker_id: str
    name: str
    mark: str
    lease_s: float
    groups: tuple[tuple[tuple[str, float], ...], ...]
    threads: int
    coroutines: int
    max_jobs: int
    target: str
    cgroup: str = ""
    offers: Amounts = {}
    accepts: Mapping[str, tuple[str, ...]] = {}


class Joined(msgspec.Struct, tag=True, frozen=True):
    """Child to supervisor: the session is registered; beat for it."""


class CannotWork(msgspec.Struct, tag=True, frozen=True):
    """Child to supervisor: it cannot do anything here, and why."""

    reason: str


class Drain(msgspec.Struct, tag=True, frozen=True):
    """Supervisor to child: claim no more, end what runs, then exit."""


class WrapUp(msgspec.Struct, tag=True, frozen=True):
    """Supervisor to child: ask what still runs to checkpoint and end; it is handed back, free."""


class Cancel(msgspec.Struct, tag=True, frozen=True):
    """Supervisor to child: these jobs were asked to end."""

    tokens: tuple[bytes, ...]


class Lost(msgspec.Struct, tag=True, frozen=True):
    """Supervisor to child: the engine no longer knows these claims as this child's."""

    tokens: tuple[bytes, ...]


class TakenBack(msgspec.Struct, tag=True, frozen=True):
    """Supervisor to child: these claims were removed from the hand-over and given back."""

    tokens: tuple[bytes, ...]


Word = Joined | CannotWork | Drain | WrapUp | Cancel | Lost | TakenBack

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Word).decode
_MAX_BYTES = 1 << 17


class Control:
    """One end of the pair."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._end.fileno()

    def say(self, word: Word) -> None:
        """Send a word; what the other side cannot take any more is dropped with it."""
        try:
            self._end.send(_encode(word))
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            return

    def heard(self) -> list[Word]:
        """Return what has arrived. Raises EOFError when the other side is gone."""
        words: list[Word] = []
        while True:
            try:
                packet = self._end.recv(_MAX_BYTES)
            except BlockingIOError:
                return words
            except ConnectionResetError:
                packet = b""
            if not packet:
                if words:
                    return words
                raise EOFError
            words.append(_decode(packet))

    def close(self) -> None:
        """Close this end."""
        self._end.close()


def pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a new pair."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
