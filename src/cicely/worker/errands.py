"""What a child asks of its clerk, and the answers: messages over a socket, each a length and MessagePack."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from cicely.core.edge import Edge, ParentEnd
from cicely.core.flow import Use
from cicely.core.job import Enqueued, NewJob
from cicely.core.outcome import Outcome, Step
from cicely.engines.contract import Demand, Grant, Intake, Save, Session, Settled
from cicely.errors import SessionClosed


class LineCut(SessionClosed):
    """The process at the other end is gone, or has given this conversation up."""


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


class Add(msgspec.Struct, tag=True, frozen=True):
    """Enqueue; answered by Added."""

    jobs: tuple[NewJob, ...]
    edges: tuple[Edge, ...]


class Recall(msgspec.Struct, tag=True, frozen=True):
    """Read recorded steps; answered by Recalled."""

    job_id: str
    after: int
    limit: int


class Parents(msgspec.Struct, tag=True, frozen=True):
    """Read how the jobs before one stand; answered by Ends."""

    job_id: str
    after: int
    limit: int


class Acquire(msgspec.Struct, tag=True, frozen=True):
    """Take some of limits for a running claim; answered by Granted."""

    token: bytes
    request: bytes
    uses: tuple[Use, ...]


class Release(msgspec.Struct, tag=True, frozen=True):
    """Give back what was acquired; answered by Granted."""

    token: bytes
    request: bytes
    spent: Mapping[str, float]


class Arm(msgspec.Struct, tag=True, frozen=True):
    """Ring for this session from now on; not answered."""


class Disarm(msgspec.Struct, tag=True, frozen=True):
    """Ring no more; not answered."""


class Leave(msgspec.Struct, tag=True, frozen=True):
    """Claim for this when the bell rings. Answered once: then by Brought, or after TakeBack."""

    demand: Demand


class TakeBack(msgspec.Struct, tag=True, frozen=True):
    """Claim no more for the demand that was left; ignored where none is."""


Request = (
    Acquire
    | Add
    | Join
    | Claim
    | Settle
    | Keep
    | PutBlob
    | GetBlob
    | Recall
    | Parents
    | Release
    | Arm
    | Disarm
    | Leave
    | TakeBack
)


class Joined(msgspec.Struct, tag=True, frozen=True):
    """The session is registered; `has_bell` says whether it will be rung."""

    has_bell: bool


class Taken(msgspec.Struct, tag=True, frozen=True):
    """What a claim took."""

    intake: Intake


class Brought(msgspec.Struct, tag=True, frozen=True):
    """What was claimed for the demand that was left, and when that was sent, by the boot-time clock."""

    has_rung: bool
    intake: Intake = Intake()
    sent_at: float = 0.0


class Judged(msgspec.Struct, tag=True, frozen=True):
    """What a settle decided."""

    settled: Settled


class Kept(msgspec.Struct, tag=True, frozen=True):
    """Which of the saves still held their claims."""

    held: tuple[bool, ...]


class Blob(msgspec.Struct, tag=True, frozen=True):
    """A blob, or None."""

    data: bytes | None


class Added(msgspec.Struct, tag=True, frozen=True):
    """Which jobs stand for those that were enqueued."""

    answers: tuple[Enqueued, ...]


class Recalled(msgspec.Struct, tag=True, frozen=True):
    """Some of a job's steps."""

    steps: tuple[Step, ...]


class Granted(msgspec.Struct, tag=True, frozen=True):
    """Whether something was given, and when to ask again."""

    grant: Grant


class Ends(msgspec.Struct, tag=True, frozen=True):
    """How jobs ended."""

    ends: tuple[ParentEnd, ...]


class Refused(msgspec.Struct, tag=True, frozen=True):
    """The engine raised this error."""

    error: str
    message: str


Answer = Added | Joined | Taken | Brought | Judged | Kept | Blob | Recalled | Granted | Ends | Refused

_LENGTH: Final = struct.Struct("!I")
_CHUNK_BYTES: Final = 1 << 20

_encode = msgspec.msgpack.Encoder().encode
decode_request: Callable[[bytes], Request] = msgspec.msgpack.Decoder(Request).decode
decode_answer: Callable[[bytes], Answer] = msgspec.msgpack.Decoder(Answer).decode


def send_frame(end: socket.socket, message: Request | Answer) -> None:
    """Send one message, whole."""
    body = _encode(message)
    end.sendall(_LENGTH.pack(len(body)) + body)


def receive_frame(end: socket.socket) -> bytes:
    """Wait for one whole message. Raises LineCut at the end of the line."""
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
            raise LineCut("the other end of the line is gone")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
