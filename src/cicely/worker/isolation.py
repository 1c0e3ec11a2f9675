"""The child's side of an isolated attempt: fork it, listen to it, and say how it ended.

The supervisor watches its limits on the board and has it killed; the zygote reports when nothing of
its tree is left. Only then is there an outcome.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from cicely.core.edge import Edge
from cicely.core.flow import Use
from cicely.core.job import Claim, NewJob
from cicely.core.journal import with_value
from cicely.core.outcome import Crashed, Deferred, Outcome, Step, Succeeded
from cicely.core.task import Task
from cicely.engines.contract import Save
from cicely.errors import Malformed, NotStorable, SessionClosed, UsageError
from cicely.worker import frames
from cicely.worker.allowance import limits_of
from cicely.worker.attempt import Values, failed, refused
from cicely.worker.board import Board, Running
from cicely.worker.cgroups import MemoryGroups
from cicely.worker.exchange import Exchange
from cicely.worker.frames import BadFrame, Wire
from cicely.worker.inputs import resolved_claim
from cicely.worker.limits import TOO_LARGE, limit_outcome, on_board
from cicely.worker.line import Gone
from cicely.worker.nursery import ForkRefused, Nursery, ZygoteDied, ZygoteStalled
from cicely.worker.processes import boottime, death_of

log = logging.getLogger("cicely.worker")

#: After a refused fork: the machine is out of memory or of processes, and will be for a moment.
NO_PROCESS_AGAIN_S: Final = 1.0
_GONE_WITHIN_S: Final = 30.0
_WAIT_S: Final = 1.0


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
        self,
        nursery: Nursery,
        board: Board,
        values: Values,
        *,
        exchange: Exchange,
        target: str,
        groups: MemoryGroups | None = None,
    ) -> None:
        self._nursery = nursery
        self._board = board
        self._values = values
        self._exchange = exchange
        self._target = target
        self._groups = groups
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
            group = self._group_for(running)
            wire = self._fork(frames.Job(bare, self._target, group), attempt, running)
        except (ForkRefused, ZygoteStalled, ZygoteDied, OSError) as error:
            os.close(attempt.gone)
            self._remove_group(running)
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
            self._remove_group(running)
        if isinstance(outcome, Succeeded):
            return self._stowed(claim, task, outcome)
        return outcome

    def _bare(self, claim: Claim) -> Claim:
        """Return the claim with values that can be read without an engine and without keys."""
        if claim.joins:
            claim = resolved_claim(claim, self._values)
        else:
            body = self._values.bare(claim.job_id, claim.body)
            claim = msgspec.structs.replace(claim, body=body)
        checkpoint = claim.checkpoint
        if checkpoint is not None:
            checkpoint = self._values.bare(claim.job_id, checkpoint)
        return msgspec.structs.replace(claim, checkpoint=checkpoint)

    def _group_for(self, running: Running) -> str:
        """Make the control group that limits this attempt, where there is one to be made."""
        if self._groups is None or not running.memory_bytes:
            return ""
        try:
            return str(self._groups.create(running.token.hex(), running.memory_bytes))
        except OSError as error:
            log.warning("the memory limit is sampled, for no control group can be made: %s", error)
            return ""

    def _remove_group(self, running: Running) -> None:
        if self._groups is not None and running.memory_bytes:
            self._groups.remove(running.token.hex())

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
                case frames.Checkpoint() | frames.Record():
                    self._board.touch(attempt.slot, boottime())
                    self._send(attempt, self._kept(claim, frame))
                case frames.Ended(outcome=outcome) if outcome.token == claim.token:
                    attempt.outcome = outcome
                case _:
                    self._send(attempt, self._answer(claim, frame))

    def _answer(self, claim: Claim, frame: frames.Frame) -> frames.Frame:
        match frame:
            case frames.Add(jobs=jobs, edges=edges):
                return self._added(jobs, edges)
            case frames.Acquire(request=request, uses=uses):
                return self._granted(claim, request, uses)
            case frames.Release(request=request, spent=spent):
                self._exchange.calls.release(claim.token, request, spent)
                return frames.Kept(is_held=True)
            case frames.Recall():
                return frames.Recalled(tuple(self._bare_steps(claim)))
            case _:
                raise BadFrame(f"not expected from an attempt: {type(frame).__name__}")

    def _granted(self, claim: Claim, request: bytes, uses: Sequence[Use]) -> frames.Granted | frames.Kept:
        try:
            return frames.Granted(self._exchange.calls.acquire(claim.token, request, uses))
        except SessionClosed:
            return frames.Kept(is_held=False)

    def _kept(self, claim: Claim, frame: frames.Checkpoint | frames.Record) -> frames.Kept:
        try:
            match frame:
                case frames.Record():
                    save = self._step(claim, frame)
                case frames.Checkpoint():
                    save = self._checkpoint(claim, frame)
        except NotStorable as error:
            return frames.Kept(is_held=True, refusal=str(error))
        return frames.Kept(self._exchange.keep(save))

    def _checkpoint(self, claim: Claim, frame: frames.Checkpoint) -> Save:
        data = self._stow(claim, frame.data, where=f"the checkpoint of {claim.task}")
        return Save(claim.token, checkpoint=data)

    def _step(self, claim: Claim, frame: frames.Record) -> Save:
        where = f"step {frame.step.key!r} of {claim.task}"
        step = with_value(frame.step, lambda data: self._stow(claim, data, where=where))
        return Save(claim.token, steps=(step,))

    def _stow(self, claim: Claim, data: bytes, *, where: str) -> bytes:
        return self._values.keep_bare(claim.job_id, data, where=where)

    def _added(self, jobs: Sequence[NewJob], edges: Sequence[Edge]) -> frames.Added | frames.Kept:
        try:
            whole = [msgspec.structs.replace(job, body=self._body_of(job)) for job in jobs]
            return frames.Added(tuple(self._exchange.calls.enqueue(whole, edges)))
        except UsageError as error:
            return frames.Kept(is_held=True, refusal=str(error))

    def _body_of(self, job: NewJob) -> bytes:
        return self._values.keep_bare(job.id, job.body, where=job.task)

    def _bare_steps(self, claim: Claim) -> list[Step]:
        steps = self._exchange.calls.steps(claim.job_id)
        return [with_value(step, lambda data: self._values.bare(claim.job_id, data)) for step in steps]

    def _conclude(self, attempt: _Attempt, running: Running) -> Outcome:
        """Wait until nothing of the attempt is left, then say how it ended."""
        if attempt.status is None:
            self._nursery.kill(attempt.pid)
            _await_readable(attempt.gone, _GONE_WITHIN_S)
        verdict = self._board.verdict(attempt.slot)
        if isinstance(attempt.outcome, Succeeded):
            return attempt.outcome
        if self._has_overflowed(running):
            # What it says of itself then is what became of it when a part of its tree was killed.
            return limit_outcome(running, verdict or TOO_LARGE)
        if attempt.outcome is not None:
            return attempt.outcome
        if verdict:
            return limit_outcome(running, verdict)
        return Crashed(running.token, death_of(attempt.status if attempt.status is not None else -9))

    def _has_overflowed(self, running: Running) -> bool:
        return self._groups is not None and self._groups.has_overflowed(running.token.hex())

    def _stowed(self, claim: Claim, task: Task, outcome: Succeeded) -> Outcome:
        where = f"the result of {task.name}"
        try:
            result = self._values.keep_bare_result(claim.job_id, outcome.result, where=where)
            return msgspec.structs.replace(outcome, result=result)
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
