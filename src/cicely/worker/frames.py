"""What an isolated attempt and its child say to each other: framed, capped and validated.

The attempt runs user code, so nothing it says is trusted further than its own job: a frame is a
length and MessagePack of one of the types below, and anything else ends the attempt.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from cicely.core.edge import Edge
from cicely.core.flow import Use
from cicely.core.job import Claim, Enqueued, NewJob
from cicely.core.outcome import Outcome, Step
from cicely.engines.contract import Grant

MAX_FRAME_BYTES: Final = 80 * 1024 * 1024
_LENGTH: Final = struct.Struct("!I")


class Job(msgspec.Struct, tag=True, frozen=True):
    """Child to attempt, as the spec of its fork: the claim, with its values at hand.

    `cgroup` is the control group with its memory limit, "" for none.
    """

    claim: Claim
    target: str
    cgroup: str = ""


class Interrupt(msgspec.Struct, tag=True, frozen=True):
    """Child to attempt: end yourself."""


class OutOfTime(msgspec.Struct, tag=True, frozen=True):
    """Child to attempt: the soft timeout has passed."""


class Kept(msgspec.Struct, tag=True, frozen=True):
    """Child to attempt: the checkpoint is durable, or the claim was lost, or it cannot be kept."""

    is_held: bool
    refusal: str = ""


class Touched(msgspec.Struct, tag=True, frozen=True):
    """Attempt to child: a sign of life."""


class Progress(msgspec.Struct, tag=True, frozen=True):
    """Attempt to child: encoded progress."""

    data: bytes


class Checkpoint(msgspec.Struct, tag=True, frozen=True):
    """Attempt to child: an encoded checkpoint; answered by Kept."""

    data: bytes


class Record(msgspec.Struct, tag=True, frozen=True):
    """Attempt to child: a step to be recorded; answered by Kept."""

    step: Step


class Add(msgspec.Struct, tag=True, frozen=True):
    """Attempt to child: enqueue these, whose arguments are bare; answered by Added, or a refusing Kept."""

    jobs: tuple[NewJob, ...]
    edges: tuple[Edge, ...]


class Added(msgspec.Struct, tag=True, frozen=True):
    """Child to attempt: which jobs stand for those that were enqueued."""

    answers: tuple[Enqueued, ...]


class Acquire(msgspec.Struct, tag=True, frozen=True):
    """Attempt to child: take some of limits; answered by Granted, or a Kept that is not held."""

    request: bytes
    uses: tuple[Use, ...]


class Release(msgspec.Struct, tag=True, frozen=True):
    """Attempt to child: give back what was acquired; answered by Kept."""

    request: bytes
    spent: Mapping[str, float]


class Granted(msgspec.Struct, tag=True, frozen=True):
    """Child to attempt: whether it was given."""

    grant: Grant


class Recall(msgspec.Struct, tag=True, frozen=True):
    """Attempt to child: which steps were recorded? Answered by Recalled."""


class Recalled(msgspec.Struct, tag=True, frozen=True):
    """Child to attempt: the recorded steps, with their values at hand."""

    steps: tuple[Step, ...]


class Ended(msgspec.Struct, tag=True, frozen=True):
    """Attempt to child, at last: how it ended."""

    outcome: Outcome


ToAttempt = Interrupt | OutOfTime | Kept | Recalled | Added | Granted
ToChild = Touched | Progress | Checkpoint | Record | Recall | Add | Acquire | Release | Ended
Frame = ToAttempt | ToChild

_encode = msgspec.msgpack.Encoder().encode
_decode: Callable[[bytes], Frame] = msgspec.msgpack.Decoder(Frame).decode


class BadFrame(Exception):
    """The other side said something that is no frame."""


class Wire:
    """One end of the pipe between the two; writing blocks, reading takes what is there."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._buffer = bytearray()

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._end.fileno()

    def send(self, frame: Frame) -> None:
        """Send a frame. Raises OSError when the other side is gone."""
        body = _encode(frame)
        self._end.sendall(_LENGTH.pack(len(body)) + body)

    def receive(self) -> list[Frame]:
        """Return the frames that are complete. Raises EOFError at the end, BadFrame for garbage."""
        try:
            data = self._end.recv(1 << 18)
        except ConnectionResetError:
            data = b""
        if not data:
            raise EOFError
        self._buffer += data
        frames: list[Frame] = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    def _next(self) -> Frame | None:
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > MAX_FRAME_BYTES:
            raise BadFrame(f"a frame of {length} bytes; at most {MAX_FRAME_BYTES} are taken")
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[_LENGTH.size : end])
        del self._buffer[:end]
        try:
            return _decode(body)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise BadFrame(str(error)) from error

    def close(self) -> None:
        """Close this end."""
        self._end.close()
