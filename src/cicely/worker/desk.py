"""The child's side of its engine calls: they are carried out by the supervisor's process.

User code may keep the interpreter to itself for seconds. A transaction that ran beside it, in the
same process, would stand still with its locks held, and every other process would wait for it. So
no engine is opened where jobs run: each call is a message to a clerk, who has no user code.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec

from cicely import errors
from cicely.core.edge import Edge, ParentEnd
from cicely.core.flow import Use
from cicely.core.job import Enqueued, NewJob
from cicely.core.outcome import Outcome, Step
from cicely.engines.contract import Bell, Demand, Grant, Intake, Save, Session, Settled
from cicely.errors import CicelyError, EngineError, EngineUnavailable
from cicely.worker.errands import (
    Acquire,
    Add,
    Answer,
    Arm,
    Brought,
    Claim,
    Disarm,
    GetBlob,
    Join,
    Joined,
    Keep,
    Leave,
    LineCut,
    Parents,
    PutBlob,
    Recall,
    Refused,
    Release,
    Request,
    Settle,
    TakeBack,
    decode_answer,
    receive_frame,
    send_frame,
)
from cicely.worker.processes import boottime

log = logging.getLogger("cicely.worker")

T = TypeVar("T")

_BACKOFF_S: Final = (0.02, 0.05, 0.1, 0.25, 0.5, 1.0)


class Verbs(Protocol):
    """The verbs of an engine that an exchange needs."""

    def claim(self, session_id: str, demand: Demand) -> Intake:
        """As `engines.contract.Engine.claim`."""

    def settle(self, session_id: str, outcomes: Sequence[Outcome], demand: Demand | None = None) -> Settled:
        """As `engines.contract.Engine.settle`."""

    def save(self, session_id: str, saves: Sequence[Save]) -> list[bool]:
        """As `engines.contract.Engine.save`."""

    def enqueue(self, jobs: Sequence[NewJob], edges: Sequence[Edge] = ()) -> list[Enqueued]:
        """As `engines.contract.Engine.enqueue`."""

    def steps(self, job_id: str, *, after: int = 0, limit: int = 1_000) -> list[Step]:
        """As `engines.contract.Engine.steps`."""

    def acquire(self, session_id: str, token: bytes, request: bytes, uses: Sequence[Use]) -> Grant:
        """As `engines.contract.Engine.acquire`."""

    def release(self, session_id: str, token: bytes, request: bytes, spent: Mapping[str, float]) -> None:
        """As `engines.contract.Engine.release`."""

    def doorbell(self, session_id: str) -> Bell:
        """As `engines.contract.Engine.doorbell`."""


def insist(call: Callable[[], T]) -> T:
    """Repeat a call until the engine answers it."""
    tries = 0
    while True:
        try:
            return call()
        except EngineUnavailable as error:
            if tries % 20 == 0:
                log.warning("the engine does not answer, trying again: %s", error)
            time.sleep(_BACKOFF_S[min(tries, len(_BACKOFF_S) - 1)])
            tries += 1


def never() -> bool:
    """Return False: who asks wants the answer, however long it takes."""
    return False


def insist_until(is_over: Callable[[], bool], call: Callable[[], T]) -> T | None:
    """Repeat a call until the engine answers it; None where nobody wants the answer any more."""

    def once() -> T | None:
        try:
            return call()
        except EngineUnavailable:
            if is_over():
                return None
            raise

    return insist(once)


class Desk:
    """An engine for one session, at the other end of a socket. Safe to share between threads.

    `ring_fd` is an eventfd that the clerk writes to when the session's bell rings.
    """

    def __init__(self, end: socket.socket, ring_fd: int) -> None:
        self._end = end
        self._ring_fd = ring_fd
        self.has_bell = True
        #: The demand that was left and not collected.
        self.standing: Demand | None = None
        self._lock = threading.Lock()

    def join(self, session: Session) -> None:
        """Register the session that this desk is for."""
        answer = self._ask(Join(session))
        self.has_bell = isinstance(answer, Joined) and answer.has_bell

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

    def enqueue(self, jobs: Sequence[NewJob], edges: Sequence[Edge] = ()) -> list[Enqueued]:
        """As the contract says."""
        answer: Any = self._ask(Add(tuple(jobs), tuple(edges)))
        return list(answer.answers)

    def steps(self, job_id: str, *, after: int = 0, limit: int = 1_000) -> list[Step]:
        """As the contract says."""
        answer: Any = self._ask(Recall(job_id, after, limit))
        return list(answer.steps)

    def parents(self, job_id: str, *, after: int = 0, limit: int = 1_000) -> list[ParentEnd]:
        """As the contract says."""
        answer: Any = self._ask(Parents(job_id, after, limit))
        return list(answer.ends)

    def acquire(self, session_id: str, token: bytes, request: bytes, uses: Sequence[Use]) -> Grant:
        """As the contract says."""
        answer: Any = self._ask(Acquire(token, request, tuple(uses)))
        grant: Grant = answer.grant
        return grant

    def release(self, session_id: str, token: bytes, request: bytes, spent: Mapping[str, float]) -> None:
        """As the contract says."""
        self._ask(Release(token, request, spent))

    def doorbell(self, session_id: str) -> Bell:
        """Return the session's bell."""
        return _Ring(self, self._ring_fd if self.has_bell else -1)

    # --- a demand that stands -----------------------------------------------------------------
    def fileno(self) -> int:
        """Return a descriptor that is readable when the clerk has claimed for the demand left."""
        return self._end.fileno()

    def leave(self, demand: Demand) -> None:
        """Have the clerk claim for such a demand, once, when the bell rings, instead of passing the ring on.

        Until it is collected nothing else may be asked.
        """
        self.standing = msgspec.structs.replace(demand, request=os.urandom(8))
        self.tell(Leave(self.standing))

    @property
    def is_answered(self) -> bool:
        """Whether the clerk has claimed for the demand left."""
        return _is_readable(self._end)

    def collect(self, is_over: Callable[[], bool] = never) -> Brought:
        """Return what was claimed for the demand that was left; where nothing was yet, take it back.

        Where the engine did not answer, the claim is repeated until it does, or until `is_over`.
        """
        demand = self.standing
        if demand is None:
            return Brought(has_rung=False)
        try:
            return self._collected()
        except EngineUnavailable:
            sent_at = boottime()
            intake = insist_until(is_over, lambda: self.claim("", demand)) or Intake()
            return Brought(has_rung=True, intake=intake, sent_at=sent_at)
        finally:
            self.standing = None

    def _collected(self) -> Brought:
        with self._lock:
            if not _is_readable(self._end):
                self._send(TakeBack())
            answer: Any = decode_answer(receive_frame(self._end))
        if isinstance(answer, Refused):
            raise _error_of(answer)
        brought: Brought = answer
        return brought

    def tell(self, request: Request) -> None:
        """Send a request that has no answer."""
        with self._lock:
            self._send(request)

    def _ask(self, request: Request) -> Answer:
        with self._lock:
            self._send(request)
            answer = decode_answer(receive_frame(self._end))
        if isinstance(answer, Refused):
            raise _error_of(answer)
        return answer

    def _send(self, request: Request) -> None:
        try:
            send_frame(self._end, request)
        except OSError as error:
            raise LineCut(f"the supervisor does not answer: {error}") from error


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


def _is_readable(end: socket.socket) -> bool:
    poller = select.poll()
    poller.register(end, select.POLLIN)
    return bool(poller.poll(0))
