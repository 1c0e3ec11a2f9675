"""The process of one isolated attempt, forked by the zygote: run the job, say how it ended, exit.

It holds one pipe to its child and nothing else: no engine, no URL of one, no signing keys.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from cicely.core.edge import Edge
from cicely.core.flow import Use
from cicely.core.job import Enqueued, NewJob
from cicely.core.outcome import Step
from cicely.engines.contract import Grant
from cicely.errors import Cancelled, NotStorable, SoftTimeout, UsageError
from cicely.worker import cgroups, frames
from cicely.worker.attempt import Values, failed, refused, run_attempt
from cicely.worker.context import INTERRUPT, Context, encoded_progress
from cicely.worker.frames import Wire
from cicely.worker.logs import show_logs

_TOUCH_EVERY_S = 0.05


class _Channel:
    """The way from the job to its child; also hears when the child wants it to end."""

    def __init__(self, wire: Wire, values: Values, job_id: str) -> None:
        self._wire = wire
        self._values = values
        self._job_id = job_id
        self._lock = threading.Lock()
        self._touched_at = 0.0
        self._asking = threading.Lock()
        self._answered = threading.Event()
        self._answer: frames.Frame = frames.Kept(is_held=True)
        self.pending: BaseException | None = None

    def touch(self) -> None:
        """Give a sign of life, not more often than anybody looks."""
        now = time.monotonic()
        if now - self._touched_at >= _TOUCH_EVERY_S:
            self._touched_at = now
            self._send(frames.Touched())

    def progress(self, done: float, total: float | None, message: str) -> None:
        """Pass progress on."""
        self._send(frames.Progress(encoded_progress(done, total, message)))

    def checkpoint(self, state: object) -> None:
        """Keep `state` durably. Raises Cancelled when the claim no longer holds."""
        data = self._values.pack(self._job_id, state, where="the checkpoint")
        self._keep(frames.Checkpoint(data))

    def record(self, step: Step) -> None:
        """Record a step durably. Raises Cancelled when the claim no longer holds."""
        self._keep(frames.Record(step))

    def steps(self) -> list[Step]:
        """Return the recorded steps."""
        answer = self._ask(frames.Recall())
        return list(answer.steps) if isinstance(answer, frames.Recalled) else []

    def enqueue(self, jobs: Sequence[NewJob], edges: Sequence[Edge]) -> Sequence[Enqueued]:
        """Enqueue what the job adds. Raises UsageError with the child's reason."""
        answer = self._ask(frames.Add(tuple(jobs), tuple(edges)))
        if isinstance(answer, frames.Added):
            return answer.answers
        raise UsageError(answer.refusal if isinstance(answer, frames.Kept) else "the child refused it")

    def acquire(self, request: bytes, uses: Sequence[Use]) -> Grant:
        """Take some of limits. Raises Cancelled when the claim no longer holds."""
        answer = self._ask(frames.Acquire(request, tuple(uses)))
        if isinstance(answer, frames.Granted):
            return answer.grant
        raise Cancelled("this attempt's claim was lost")

    def release(self, request: bytes, spent: Mapping[str, float]) -> None:
        """Give back what was acquired."""
        self._ask(frames.Release(request, spent))

    def _keep(self, frame: frames.Checkpoint | frames.Record) -> None:
        answer = self._ask(frame)
        if isinstance(answer, frames.Kept) and answer.refusal:
            raise NotStorable(answer.refusal)
        if isinstance(answer, frames.Kept) and not answer.is_held:
            raise Cancelled("this attempt's claim was lost")

    def _ask(self, frame: frames.Frame) -> frames.Frame:
        """Send a frame and return what answers it; one at a time."""
        with self._asking:
            self._answered.clear()
            self._send(frame)
            self._answered.wait()
            return self._answer

    def ended(self, outcome: Any) -> None:
        """Say how the attempt ended."""
        self._send(frames.Ended(outcome))

    def _send(self, frame: frames.Frame) -> None:
        with self._lock:
            self._wire.send(frame)

    def serve(self, context: Context) -> None:
        """Hear the child from now on, and raise in the job what it wants to be raised there."""

        def on_signal(signum: int, frame: FrameType | None) -> None:
            error, self.pending = self.pending, None
            context.cancelled = context.cancelled or isinstance(error, Cancelled)
            if error is not None and context.is_inside:
                raise error

        signal.signal(INTERRUPT, on_signal)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        """Without its child the attempt ends."""
        poller = select.poll()
        poller.register(self._wire, select.POLLIN)
        try:
            while True:
                poller.poll()
                for frame in self._wire.receive():
                    self._hear(frame)
        except (EOFError, OSError, frames.BadFrame):
            os._exit(70)

    def _hear(self, frame: frames.Frame) -> None:
        if isinstance(frame, frames.Kept | frames.Recalled | frames.Added | frames.Granted):
            self._answer = frame
            self._answered.set()
            return
        if isinstance(frame, frames.OutOfTime):
            self.pending = SoftTimeout("it ran for its soft_timeout")
        else:
            self.pending = Cancelled("it was asked to end")
        signal.pthread_kill(threading.main_thread().ident or 0, INTERRUPT)


def main(app: Any, spec: bytes, fds: Sequence[int], nursery: object) -> None:
    """Run the job in `spec`, speaking over the first of `fds`."""
    show_logs()
    job = msgspec.msgpack.decode(spec, type=frames.Job)
    if job.cgroup:
        cgroups.enter(Path(job.cgroup))
    claim = job.claim
    values = app.values_without_engine()
    os.environ.pop("CICELY_URL", None)
    wire = Wire(socket.socket(fileno=fds[0]))
    channel = _Channel(wire, values, claim.job_id)
    task = app.resolve(claim.task)
    if task is None:
        unknown = LookupError(f"no task is called {claim.task} where it was to run")
        channel.ended(refused(claim, unknown))
        return
    try:
        restored = None
        if claim.checkpoint is not None:
            restored = values.unpack(claim.job_id, claim.checkpoint)
        context = Context(claim, channel, values=values, app=app, restored=restored)
        channel.serve(context)
        outcome = run_attempt(claim, task, values, context)
    except (Cancelled, SoftTimeout) as late:
        outcome = failed(claim, task, late)
    except Exception as error:  # noqa: BLE001  (a checkpoint that cannot be read, for one)
        outcome = refused(claim, error)
    channel.ended(outcome)
