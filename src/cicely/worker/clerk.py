"""The supervisor's side of a child's engine calls; see `desk` for why they come here."""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
from collections.abc import Callable

from cicely.engines.contract import Bell, Demand, Engine, Grant
from cicely.errors import CicelyError, EngineUnavailable
from cicely.worker.errands import (
    Acquire,
    Add,
    Added,
    Answer,
    Arm,
    Blob,
    Brought,
    Claim,
    Disarm,
    Ends,
    GetBlob,
    Granted,
    Join,
    Joined,
    Judged,
    Keep,
    Kept,
    Leave,
    LineCut,
    Parents,
    PutBlob,
    Recall,
    Recalled,
    Refused,
    Release,
    Request,
    Settle,
    TakeBack,
    Taken,
    decode_request,
    receive_frame,
    send_frame,
)
from cicely.worker.processes import boottime

log = logging.getLogger("cicely.worker")


class Clerk:
    """Carries out the calls of one session, in a thread, until its child is gone.

    `note_failure` is called for each that the engine did not answer.
    """

    def __init__(
        self,
        engine: Engine,
        session_id: str,
        end: socket.socket,
        ring_fd: int,
        note_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine = engine
        self._session_id = session_id
        self._end = end
        self._ring_fd = ring_fd
        self._note_failure = note_failure
        self._bell: Bell | None = None
        #: What the child wants as soon as the bell rings.
        self._demand: Demand | None = None
        self._thread = threading.Thread(target=self._serve, name="cicely-clerk", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def finish(self, timeout_s: float) -> None:
        """Wait until what the dead child had asked for is done: its last outcomes count."""
        self._thread.join(timeout_s)

    # --- the thread ---------------------------------------------------------------------------
    def _serve(self) -> None:
        try:
            while True:
                self._wait()
                self._attend(decode_request(receive_frame(self._end)))
        except (LineCut, OSError):
            return  # the child is gone
        except Exception:
            # Without its clerk a child can do nothing: where its line is cut it ends, and is replaced.
            log.exception("the conversation with a child broke off")
        finally:
            self._close()

    def _wait(self) -> None:
        """Return when the child has something to say; pass rings on meanwhile."""
        poller = select.poll()
        poller.register(self._end, select.POLLIN)
        bell = self._bell
        if bell is not None and bell.fileno() >= 0:
            poller.register(bell.fileno(), select.POLLIN)
        while True:
            ready = {fd for fd, _ in poller.poll()}
            if bell is not None and bell.fileno() in ready:
                bell.disarm()
                self._heed_ring()
            if self._end.fileno() in ready:
                return

    def _heed_ring(self) -> None:
        """Claim for the demand that the child left, or else pass the ring on."""
        demand, self._demand = self._demand, None
        if demand is None:
            os.eventfd_write(self._ring_fd, 1)
            return
        sent_at = boottime()
        answer = self._answer(Claim(demand))
        if isinstance(answer, Taken):
            answer = Brought(has_rung=True, intake=answer.intake, sent_at=sent_at)
        send_frame(self._end, answer)

    def _attend(self, request: Request) -> None:
        match request:
            case Arm():
                if self._bell is not None:
                    self._bell.arm()
            case Disarm():
                if self._bell is not None:
                    self._bell.disarm()
            case Leave(demand=demand):
                self._demand = demand
            case TakeBack():
                # Where a ring was faster, its answer is on the way and the only one.
                if self._demand is not None:
                    self._demand = None
                    send_frame(self._end, Brought(has_rung=False))
            case _:
                send_frame(self._end, self._answer(request))

    def _answer(self, request: Request) -> Answer:
        try:
            return self._carry_out(request)
        except EngineUnavailable as error:
            self._note_failure()
            return Refused(type(error).__name__, str(error))
        except CicelyError as error:
            return Refused(type(error).__name__, str(error))
        except Exception as error:
            log.exception("an engine call of a child failed in a way that it must not")
            return Refused("EngineError", f"{type(error).__name__}: {error}")

    def _carry_out(self, request: Request) -> Answer:
        engine, session_id = self._engine, self._session_id
        match request:
            case Settle(outcomes=outcomes, demand=demand):
                return Judged(engine.settle(session_id, outcomes, demand))
            case Claim(demand=demand):
                return Taken(engine.claim(session_id, demand))
            case Keep(saves=saves):
                return Kept(tuple(engine.save(session_id, saves)))
            case Add(jobs=jobs, edges=edges):
                return Added(tuple(engine.enqueue(jobs, edges)))
            case PutBlob(job_id=job_id, digest=digest, data=data):
                engine.put_blob(job_id, digest, data)
                return Blob(None)
            case Join(session=session):
                engine.join(session)
                self._bell = engine.doorbell(session_id)
                return Joined(has_bell=self._bell.fileno() >= 0)
            case Acquire() | Release():
                return self._pass_limits(request)
            case _:
                return self._look_up(request)

    def _pass_limits(self, request: Acquire | Release) -> Granted:
        engine, session_id = self._engine, self._session_id
        if isinstance(request, Acquire):
            return Granted(engine.acquire(session_id, request.token, request.request, request.uses))
        engine.release(session_id, request.token, request.request, request.spent)
        return Granted(Grant(given=False))

    def _look_up(self, request: Request) -> Answer:
        engine = self._engine
        match request:
            case GetBlob(job_id=job_id, digest=digest):
                return Blob(engine.get_blob(job_id, digest))
            case Recall(job_id=job_id, after=after, limit=limit):
                return Recalled(tuple(engine.steps(job_id, after=after, limit=limit)))
            case Parents(job_id=job_id, after=after, limit=limit):
                return Ends(tuple(engine.parents(job_id, after=after, limit=limit)))
            case _:
                return Refused("EngineError", f"a clerk does not know {type(request).__name__}")

    def _close(self) -> None:
        if self._bell is not None:
            self._bell.close()
        self._end.close()
        os.close(self._ring_fd)
