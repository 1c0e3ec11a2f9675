"""The child's side of an isolated attempt: fork it, listen to it, and say how it ended.

The supervisor watches its limits on the board and has it killed; the zygote reports when nothing of
its tree is left. Only then is there an outcome.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import threading
from collections.abc import Callable
from typing import Final

import msgspec

from cicely.core.job import Claim
from cicely.core.outcome import (
    CAUSE_MEMORY,
    CAUSE_STALLED,
    CAUSE_TIMEOUT,
    Crashed,
    Deferred,
    Failed,
    HandedBack,
    Outcome,
    Stopped,
    Succeeded,
)
from cicely.core.retry import OutOfMemory, StallTimeout, Timeout
from cicely.core.task import Task
from cicely.errors import Malformed, NotStorable
from cicely.worker import frames
from cicely.worker.attempt import Values, failed, record_of, refused
from cicely.worker.board import Board, Running
from cicely.worker.exchange import Exchange
from cicely.worker.frames import BadFrame, Wire
from cicely.worker.line import Gone
from cicely.worker.nursery import ForkRefused, Nursery, ZygoteDied, ZygoteStalled
from cicely.worker.processes import boottime
from cicely.worker.slots import limits_of, on_board

#: Why the supervisor killed an attempt, as it stands on the board.
TIMED_OUT: Final = 1
STALLED: Final = 2
TOO_LARGE: Final = 3
CANCELLED: Final = 4
STOPPING: Final = 5

#: After a refused fork: the machine is out of memory or of processes, and will be for a moment.
NO_PROCESS_AGAIN_S: Final = 1.0
_GONE_WITHIN_S: Final = 30.0
_WAIT_S: Final = 1.0


def limit_outcome(running: Running, verdict: int) -> Outcome:
    """Return the outcome of an attempt that the supervisor ended, by its verdict."""
    ran_s = boottime() - running.started_at
    if verdict == CANCELLED:
        return Stopped(running.token, "killed: it did not end within its grace")
    if verdict == STOPPING:
        return HandedBack(running.token, "its worker stopped", has_started=True)
    if verdict == TOO_LARGE:
        error: Exception = OutOfMemory(f"its processes held more than {running.memory_bytes:,} bytes")
        return Failed(running.token, CAUSE_MEMORY, record_of(error, None).encoded(), running.memory_retry_s)
    if verdict == STALLED:
        error = StallTimeout(f"it gave no sign of life for {running.stall_s:g} s")
        return Failed(running.token, CAUSE_STALLED, record_of(error, None).encoded(), running.stall_retry_s)
    error = Timeout(f"it ran for {ran_s:.1f} s, over its timeout")
    return Failed(running.token, CAUSE_TIMEOUT, record_of(error, None).encoded(), running.timeout_retry_s)


def death_of(status: int) -> str:
    """Say in words how a process ended: its exit code, or minus the signal that killed it."""
    if status >= 0:
        return f"exited with {status}"
    name = signal.Signals(-status).name if -status in signal.valid_signals() else "unknown"
    return f"killed by signal {-status} ({name})"


class _Attempt:
    """One isolated attempt while it runs."""

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.pid = 0
        self.wire: Wire | None = None
        self.outcome: Outcome | None = None
        self.status: int | None = None
        self.gone = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)


class Isolated:
    """Runs attempts in processes of their own, one per slot at a time."""

    def __init__(
        self, nursery: Nursery, board: Board, values: Values, exchange: Exchange, *, target: str
    ) -> None:
        self._nursery = nursery
        self._board = board
        self._values = values
        self._exchange = exchange
        self._target = target
        self._attempts: dict[bytes, _Attempt] = {}
        #: Held over a birth: an attempt's end is not heard before its pid is known.
        self._births = threading.Lock()
        self._listener: threading.Thread | None = None

    # --- one attempt --------------------------------------------------------------------------
    def run(
        self,
        claim: Claim,
        task: Task,
        slot: int,
        *,
        is_ending: Callable[[], bool],
        is_wrapping_up: Callable[[], bool],
    ) -> Outcome:
        """Run it, watched on the board's `slot`, and return when its whole tree is gone."""
        try:
            bare = self._bare(claim)
            running = on_board(claim, task, limits_of(claim, task), slot)
        except Exception as error:  # noqa: BLE001  (whatever is wrong with the job is its end)
            return refused(claim, error)
        self._listen()
        attempt = _Attempt(slot)
        try:
            wire = self._fork(frames.Job(bare, self._target), attempt, running)
        except (ForkRefused, ZygoteStalled, ZygoteDied, OSError) as error:
            os.close(attempt.gone)
            return Deferred(claim.token, NO_PROCESS_AGAIN_S, f"no process could be started: {error}")
        try:
            # In this order: whoever asked it to end before it was to be found here left word there.
            if is_ending():
                self._send(attempt, frames.Interrupt())
            self._converse(claim, task, attempt, wire)
            outcome = self._conclude(attempt, running)
        finally:
            self._board.clear(slot)
            with self._births:
                del self._attempts[claim.token]
                os.close(attempt.gone)
            wire.close()
        if isinstance(outcome, Succeeded):
            return self._stowed(claim, task, outcome)
        if is_wrapping_up() and isinstance(outcome, Stopped):
            return HandedBack(claim.token, "its worker stopped", has_started=True)
        return outcome

    def _bare(self, claim: Claim) -> Claim:
        """Return the claim with values that can be read without an engine and without keys."""
        body = self._values.bare(claim.job_id, claim.body)
        checkpoint = claim.checkpoint
        if checkpoint is not None:
            checkpoint = self._values.bare(claim.job_id, checkpoint)
        return msgspec.structs.replace(claim, body=body, checkpoint=checkpoint)

    def _fork(self, job: frames.Job, attempt: _Attempt, running: Running) -> Wire:
        ours, theirs = socket.socketpair()
        # On the board before it exists: the supervisor then knows of it, whatever happens next.
        self._board.start_limited(msgspec.structs.replace(running, pid=os.getpid()))
        with theirs, self._births:
            try:
                attempt.pid = self._nursery.fork(
                    "attempt", msgspec.msgpack.encode(job), fds=[theirs.fileno()]
                )
            except BaseException:
                self._board.clear(attempt.slot)
                ours.close()
                raise
            attempt.wire = wire = Wire(ours)
            self._attempts[running.token] = attempt
        self._board.set_pid(attempt.slot, attempt.pid)
        return wire

    def _converse(self, claim: Claim, task: Task, attempt: _Attempt, wire: Wire) -> None:
        """Listen until the attempt has said how it ended, or is gone."""
        soft_s = limits_of(claim, task).soft_timeout_s
        soft_at = boottime() + soft_s if soft_s else float("inf")
        poller = select.poll()
        poller.register(wire, select.POLLIN)
        poller.register(attempt.gone, select.POLLIN)
        while attempt.outcome is None and attempt.status is None:
            wait_s = min(_WAIT_S, max(0.0, soft_at - boottime()))
            ready = {fd for fd, _ in poller.poll(wait_s * 1000)}
            if boottime() >= soft_at:
                soft_at = float("inf")
                self._send(attempt, frames.OutOfTime())
            if wire.fileno() in ready:
                try:
                    self._hear(claim, task, attempt, wire)
                except (EOFError, BadFrame, Malformed):
                    poller.unregister(wire)
                    self._nursery.kill(attempt.pid)
        self._hear_last_words(claim, task, attempt, wire)

    def _hear_last_words(self, claim: Claim, task: Task, attempt: _Attempt, wire: Wire) -> None:
        """Read what a short attempt said before it was gone, and before anybody listened."""
        with contextlib.suppress(EOFError, BadFrame, Malformed):
            while attempt.outcome is None:
                self._hear(claim, task, attempt, wire)

    def _hear(self, claim: Claim, task: Task, attempt: _Attempt, wire: Wire) -> None:
        for frame in wire.receive():
            match frame:
                case frames.Touched():
                    self._board.touch(attempt.slot, boottime())
                case frames.Progress(data=data):
                    self._board.touch(attempt.slot, boottime())
                    self._exchange.report(claim.token, data)
                case frames.Checkpoint(data=data):
                    self._board.touch(attempt.slot, boottime())
                    self._send(attempt, self._kept(claim, data))
                case frames.Ended(outcome=outcome) if outcome.token == claim.token:
                    attempt.outcome = outcome
                case _:
                    raise BadFrame(f"not expected from an attempt: {type(frame).__name__}")

    def _kept(self, claim: Claim, data: bytes) -> frames.Kept:
        where = f"the checkpoint of {claim.task}"
        try:
            to_keep = self._values.keep_bare(claim.job_id, data, where=where)
        except NotStorable as error:
            return frames.Kept(is_held=True, refusal=str(error))
        return frames.Kept(self._exchange.keep(claim.token, to_keep))

    def _conclude(self, attempt: _Attempt, running: Running) -> Outcome:
        """Wait until nothing of the attempt is left, then say how it ended."""
        if attempt.status is None:
            self._nursery.kill(attempt.pid)
            _await_readable(attempt.gone, _GONE_WITHIN_S)
        verdict = self._board.verdict(attempt.slot)
        if attempt.outcome is not None:
            return attempt.outcome
        if verdict:
            return limit_outcome(running, verdict)
        return Crashed(running.token, death_of(attempt.status if attempt.status is not None else -9))

    def _stowed(self, claim: Claim, task: Task, outcome: Succeeded) -> Outcome:
        where = f"the result of {task.name}"
        try:
            return Succeeded(
                outcome.token, self._values.keep_bare_result(claim.job_id, outcome.result, where=where)
            )
        except NotStorable as error:
            return failed(claim, task, error)
        except Malformed as error:
            return refused(claim, error)

    # --- called from the control thread -------------------------------------------------------
    def interrupt(self, token: bytes) -> None:
        """Ask the attempt of this claim to end, if it runs."""
        attempt = self._attempts.get(token)
        if attempt is not None:
            self._send(attempt, frames.Interrupt())

    def _send(self, attempt: _Attempt, frame: frames.Frame) -> None:
        if attempt.wire is None:
            return
        try:
            attempt.wire.send(frame)
        except OSError:
            return

    # --- the zygote's news --------------------------------------------------------------------
    def _listen(self) -> None:
        with self._births:
            if self._listener is None:
                self._listener = threading.Thread(target=self._hear_zygote, daemon=True)
                self._listener.start()

    def _hear_zygote(self) -> None:
        while True:
            _await_readable(self._nursery.fileno(), None)
            try:
                events = self._nursery.events()
            except ZygoteDied:
                return
            for event in events:
                if isinstance(event, Gone):
                    self._note_gone(event)

    def _note_gone(self, event: Gone) -> None:
        with self._births:
            for attempt in self._attempts.values():
                if attempt.pid == event.pid:
                    attempt.status = event.status
                    os.eventfd_write(attempt.gone, 1)


def _await_readable(fd: int, timeout_s: float | None) -> None:
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    poller.poll(None if timeout_s is None else timeout_s * 1000)
