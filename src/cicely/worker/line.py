"""The line between the zygote and its family: whole messages and open files over one socket pair.

A SOCK_SEQPACKET pair keeps the borders of messages, carries descriptors (SCM_RIGHTS) and reports
the end of the other side, whoever died and however. Nothing here blocks: the zygote has a deadline
to keep, whatever its readers do.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Sequence
from io import BufferedRandom

import msgspec

# A packet must fit into the socket's buffer (about 200 KiB by default); what is larger travels as
# a file in memory.
INLINE_BYTES = 64 * 1024
MAX_FDS = 250  # the kernel's SCM_MAX_FD is 253

_INLINE = b"\x00"
_IN_A_FILE = b"\x01"


class Begin(msgspec.Struct, tag=True, frozen=True):
    """Supervisor to zygote, first of all: what to import and which roles can be forked.

    Without `preload` each fork imports the target itself.
    """

    target: str | None
    preload: bool
    roles: dict[str, str]
    python_path: list[str]
    deadline_at: float


class Ready(msgspec.Struct, tag=True, frozen=True):
    """The target is imported; `manifest` is msgpack."""

    manifest: bytes


class Threads(msgspec.Struct, tag=True, frozen=True):
    """The target is imported, and these threads run, so that this process must not fork."""

    names: list[str]
    manifest: bytes


class Failed(msgspec.Struct, tag=True, frozen=True):
    """The target cannot be imported."""

    message: str
    traceback: str


class Fork(msgspec.Struct, tag=True, frozen=True):
    """Fork a process of this role; the descriptors beside the message become its `fds`."""

    request: int
    role: str
    spec: bytes


class Forked(msgspec.Struct, tag=True, frozen=True):
    """The answer to `Fork`."""

    request: int
    pid: int


class Refused(msgspec.Struct, tag=True, frozen=True):
    """The other answer to `Fork`."""

    request: int
    reason: str


class Kill(msgspec.Struct, tag=True, frozen=True):
    """Kill a forked process with its whole tree."""

    pid: int


class HoldUntil(msgspec.Struct, tag=True, frozen=True):
    """The family may live until this instant of the boot-time clock."""

    deadline_at: float


class Exited(msgspec.Struct, tag=True, frozen=True):
    """A forked process ended; `status` is its exit code, or minus the signal that killed it."""

    pid: int
    status: int


class Gone(msgspec.Struct, tag=True, frozen=True):
    """Nothing is left of a forked process: neither its descendants nor its attempts."""

    pid: int
    status: int


class Stuck(msgspec.Struct, tag=True, frozen=True):
    """Killing goes on for seconds; these processes of the tree are still there. `Gone` is to come."""

    pid: int
    remaining: list[int]


class Lapsed(msgspec.Struct, tag=True, frozen=True):
    """The deadline passed: everything was killed and nothing is forked before a new `HoldUntil`."""

    deadline_at: float


Message = (
    Begin
    | Ready
    | Threads
    | Failed
    | Fork
    | Forked
    | Refused
    | Kill
    | HoldUntil
    | Exited
    | Gone
    | Stuck
    | Lapsed
)
Event = Exited | Gone | Stuck | Lapsed


class LineClosed(Exception):
    """The other end is closed, and everything it sent was received."""


class Line:
    """One end of the socket pair."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        self._unsent: deque[Message] = deque()

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._end.fileno()

    def close(self) -> None:
        """Close this end."""
        self._end.close()

    @property
    def has_unsent(self) -> bool:
        """Whether `flush` is to be called once the line is writable."""
        return bool(self._unsent)

    def post(self, message: Message) -> None:
        """Send a message now, or with a later `flush` if the other end does not read."""
        self._unsent.append(message)
        self.flush()

    def flush(self) -> None:
        """Send what can be sent; what the other end can no longer read is dropped."""
        try:
            while self._unsent:
                self.send(self._unsent[0])
                self._unsent.popleft()
        except BlockingIOError:
            return
        except LineClosed:
            self._unsent.clear()

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send a message and copies of `fds`.

        Raises BlockingIOError when the other end does not read, LineClosed when it is gone.
        """
        if len(fds) > MAX_FDS:
            raise ValueError(f"{len(fds)} descriptors do not fit into one message of {MAX_FDS}")
        body = _encode(message)
        try:
            if len(body) <= INLINE_BYTES:
                socket.send_fds(self._end, [_INLINE, body], fds)
                return
            with _file_of(body) as file:
                socket.send_fds(self._end, [_IN_A_FILE], [*fds, file.fileno()])
        except (BrokenPipeError, ConnectionResetError) as error:
            raise LineClosed from error

    def receive(self) -> tuple[Message, list[int]]:
        """Return the next message and the descriptors that came with it, not inheritable by exec.

        Raises BlockingIOError when there is none, LineClosed at the end.
        """
        packet, fds = self._receive_packet()
        if not packet:
            raise LineClosed
        body = _contents(fds.pop()) if packet[:1] == _IN_A_FILE else packet[1:]
        try:
            return _decode(body), fds
        except msgspec.MsgspecError as error:
            # Somebody else writes here: nothing that follows can be trusted.
            raise LineClosed from error

    def _receive_packet(self) -> tuple[bytes, list[int]]:
        while True:
            try:
                packet, fds, _flags, _address = socket.recv_fds(
                    self._end, INLINE_BYTES + 1, MAX_FDS + 1, socket.MSG_CMSG_CLOEXEC
                )
            except ConnectionResetError:
                # Told once, when the other end died with our messages unread; what it had sent
                # before is still there.
                continue
            return packet, fds


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Message).decode


def pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a new line."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def _file_of(body: bytes) -> BufferedRandom:
    file = os.fdopen(os.memfd_create("cicely-message"), "w+b")
    file.write(body)
    file.flush()
    return file


def _contents(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        return file.read()
