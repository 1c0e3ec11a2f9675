"""The child's side of its engine calls: they are carried out by the supervisor's process.

User code may keep the interpreter to itself for seconds. A transaction that ran beside it, in the
same process, would stand still with its locks held, and every other process would wait for it. So
no engine is opened where jobs run: each call is a message to a clerk, who has no user code.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import msgspec

from cicely import errors
from cicely.core.outcome import Outcome
from cicely.engines.contract import Bell, Demand, Intake, Save, Session, Settled
from cicely.errors import CicelyError, EngineError, EngineUnavailable


class Join(msgspec.Struct, tag=True, frozen=True):
    """Register this session; answered by Joined."""

    session: Session


class Claim(msgspec.Struct, tag=True, frozen=True):
    """Answered by Intake."""

    demand: Demand


class Settle(msgspec.Struct, tag=True, frozen=True):
    """Answered by Settled."""

    outcomes: tuple[Outcome, ...]
    demand: Demand | None


class Keep(msgspec.Struct, tag=True, frozen=True):
    """Save; answered by Kept."""

    saves: tuple[Save, ...]


class PutBlob(msgspec.Struct, tag=True, frozen=True):
    """Answered by Blob."""

    job_id: str
    digest: str
    data: bytes


class GetBlob(msgspec.Struct, tag=True, frozen=True):
    """Answered by Blob."""

    job_id: str
    digest: str


class Arm(msgspec.Struct, tag=True, frozen=True):
    """Ring for this session from now on; not answered."""


class Disarm(msgspec.Struct, tag=True, frozen=True):
    """Ring no more; not answered."""


Request = Join | Claim | Settle | Keep | PutBlob | GetBlob | Arm | Disarm


class Joined(msgspec.Struct, tag=True, frozen=True):
    """The session is registered; `has_bell` says whether it will be rung."""

    has_bell: bool


class Taken(msgspec.Struct, tag=True, frozen=True):
    """What a claim took."""

    intake: Intake


class Judged(msgspec.Struct, tag=True, frozen=True):
    """What a settle decided."""

    settled: Settled


class Kept(msgspec.Struct, tag=True, frozen=True):
    """Which of the saves still held their claims."""

    held: tuple[bool, ...]


class Blob(msgspec.Struct, tag=True, frozen=True):
    """A blob, or None."""

    data: bytes | None


class Refused(msgspec.Struct, tag=True, frozen=True):
    """The engine raised this error."""

    error: str
    message: str


Answer = Joined | Taken | Judged | Kept | Blob | Refused

_LENGTH: Final = struct.Struct("!I")
_CHUNK_BYTES: Final = 1 << 20

_encode = msgspec.msgpack.Encoder().encode
decode_request: Callable[[bytes], Request] = msgspec.msgpack.Decoder(Request).decode
_decode_answer: Callable[[bytes], Answer] = msgspec.msgpack.Decoder(Answer).decode


class Verbs(Protocol):
    """The verbs of an engine that an exchange needs."""

    def claim(self, session_id: str, demand: Demand) -> Intake:
        """As `engines.contract.Engine.claim`."""

    def settle(self, session_id: str, outcomes: Sequence[Outcome], demand: Demand | None = None) -> Settled:
        """As `engines.contract.Engine.settle`."""

    def save(self, session_id: str, saves: Sequence[Save]) -> list[bool]:
        """As `engines.contract.Engine.save`."""

    def doorbell(self, session_id: str) -> Bell:
        """As `engines.contract.Engine.doorbell`."""


class Desk:
    """An engine for one session, at the other end of a socket. Safe to share between threads.

    `ring_fd` is an eventfd that the clerk writes to when the session's bell rings.
    """

    def __init__(self, end: socket.socket, ring_fd: int) -> None:
        self._end = end
        self._ring_fd = ring_fd
        self._has_bell = True
        self._lock = threading.Lock()

    def join(self, session: Session) -> None:
        """Register the session that this desk is for."""
        answer = self._ask(Join(session))
        self._has_bell = isinstance(answer, Joined) and answer.has_bell

    def claim(self, session_id: str, demand: Demand) -> Intake:
        """As the contract says."""
        answer: Any = self._ask(Claim(demand))
        intake: Intake = answer.intake
        return intake

    def settle(self, session_id: str, outcomes: Sequence[Outcome], demand: Demand | None = None) -> Settled:
        """As the contract says."""
        answer: Any = self._ask(Settle(tuple(outcomes), demand))
        settled: Settled = answer.settled
        return settled

    def save(self, session_id: str, saves: Sequence[Save]) -> list[bool]:
        """As the contract says."""
        answer: Any = self._ask(Keep(tuple(saves)))
        return list(answer.held)

    def put_blob(self, job_id: str, digest: str, data: bytes) -> None:
        """As the contract says."""
        self._ask(PutBlob(job_id, digest, data))

    def get_blob(self, job_id: str, digest: str) -> bytes | None:
        """As the contract says."""
        answer: Any = self._ask(GetBlob(job_id, digest))
        data: bytes | None = answer.data
        return data

    def doorbell(self, session_id: str) -> Bell:
        """Return the session's bell."""
        return _Ring(self, self._ring_fd if self._has_bell else -1)

    def tell(self, request: Request) -> None:
        """Send a request that has no answer."""
        with self._lock:
            self._send(request)

    def _ask(self, request: Request) -> Answer:
        with self._lock:
            self._send(request)
            answer = _decode_answer(receive_frame(self._end))
        if isinstance(answer, Refused):
            raise _error_of(answer)
        return answer

    def _send(self, request: Request) -> None:
        try:
            send_frame(self._end, request)
        except OSError as error:
            raise EngineUnavailable(f"the supervisor does not answer: {error}") from error


class _Ring:
    """The child's end of its bell."""

    def __init__(self, desk: Desk, fd: int) -> None:
        self._desk = desk
        self._fd = fd

    def fileno(self) -> int:
        """Return the eventfd, or -1 where the engine has no bells."""
        return self._fd

    def arm(self) -> None:
        """Be rung from now on."""
        self._desk.tell(Arm())

    def disarm(self) -> None:
        """Be rung no more, and forget the rings so far."""
        self._desk.tell(Disarm())
        if self._fd >= 0:
            try:
                os.eventfd_read(self._fd)
            except BlockingIOError:
                return

    def close(self) -> None:
        """Nothing to give back: the clerk has the bell."""


def _error_of(refused: Refused) -> CicelyError:
    kind = getattr(errors, refused.error, EngineError)
    if isinstance(kind, type) and issubclass(kind, EngineError | errors.UsageError):
        return kind(refused.message)
    return EngineError(refused.message)


def send_frame(end: socket.socket, message: Request | Answer) -> None:
    """Send one message, whole."""
    body = _encode(message)
    end.sendall(_LENGTH.pack(len(body)) + body)


def receive_frame(end: socket.socket) -> bytes:
    """Wait for one whole message. Raises EngineUnavailable at the end of the line."""
    (length,) = _LENGTH.unpack(_exactly(end, _LENGTH.size))
    return _exactly(end, length)


def _exactly(end: socket.socket, count: int) -> bytes:
    parts: list[bytes] = []
    while count:
        try:
            part = end.recv(min(count, _CHUNK_BYTES))
        except ConnectionResetError:
            part = b""
        if not part:
            raise EngineUnavailable("the other end of the line is gone")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
