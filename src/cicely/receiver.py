"""This process's session for plain queues: joined at first use, kept alive by a daemon thread."""

from __future__ import annotations

import atexit
import os
import threading
from typing import Final

from cicely.core.identity import RANDOM_BYTES, new_id
from cicely.core.outcome import Outcome
from cicely.engines.contract import Bell, Demand, Engine, Intake, Save, Session, Verdict
from cicely.errors import EngineError, SessionClosed
from cicely.outages import Outages
from cicely.patience import PATIENCE_S

LEASE_S: Final = 30.0
#: The name under which a session says that it takes plain messages.
MESSAGES: Final = ""

_SWEEP_BATCH: Final = 200
_SWEEPS_PER_BEAT: Final = 20


class Receiver:
    """Claims messages for one process; several threads may use it at once."""

    def __init__(self, engine: Engine, outages: Outages, *, lease_s: float = LEASE_S) -> None:
        self._engine = engine
        self._outages = outages
        self._pid = os.getpid()
        self._lease_s = lease_s
        self._lock = threading.Lock()
        self._session_id = ""
        self._held: set[bytes] = set()
        self._beats = 0
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None

    def claim(self, demand: Demand) -> Intake:
        """Claim for `demand`, in a session that is joined for it where there is none."""
        try:
            intake = self._claim(demand)
        except SessionClosed:
            # The process was stopped or cut off for a lease; what it held went back.
            self._session_id = ""
            intake = self._claim(demand)
        self._held.update(claim.token for claim in intake.claims)
        return intake

    def _claim(self, demand: Demand) -> Intake:
        session_id = self.session_id()
        return self._outages.patiently(lambda: self._engine.claim(session_id, demand), for_s=PATIENCE_S)

    def session_id(self) -> str:
        """Return the id of the session, joined."""
        with self._lock:
            if not self._session_id:
                self._session_id = self._join()
            if self._thread is None:
                self._thread = threading.Thread(target=self._keep, name="cicely-receiver", daemon=True)
                self._thread.start()
                atexit.register(self.close)
            return self._session_id

    def _join(self) -> str:
        from cicely.worker.processes import start_time, this_host

        session_id = new_id(0, os.urandom(RANDOM_BYTES))
        pid = os.getpid()
        session = Session(
            id=session_id,
            worker=session_id,
            tasks=frozenset((MESSAGES,)),
            lease_s=self._lease_s,
            host=this_host(),
            pid=pid,
            start_time=start_time(pid) or 0,
            name=f"receiver {pid} on {os.uname().nodename}",
        )
        self._outages.patiently(lambda: self._engine.join(session), for_s=PATIENCE_S)
        return session_id

    def bell(self) -> Bell:
        """Return a bell that is rung for new messages."""
        return self._engine.doorbell(self.session_id())

    def settle(self, outcome: Outcome) -> Verdict:
        """Record what became of a message."""
        session_id = self._session_id
        settled = self._outages.patiently(
            lambda: self._engine.settle(session_id, [outcome]), for_s=PATIENCE_S
        )
        self._held.discard(outcome.token)
        return settled.verdicts[0]

    def save(self, save: Save) -> bool:
        """Move a message's deadline; False where it is held no longer."""
        session_id = self._session_id
        return self._outages.patiently(lambda: self._engine.save(session_id, [save]), for_s=PATIENCE_S)[0]

    def close(self) -> None:
        """Hand back what is held, at no cost to it, and end the session."""
        if os.getpid() != self._pid:
            # A forked copy, at its exit: the session is its parent's, and goes on.
            return
        atexit.unregister(self.close)
        self._is_over.set()
        with self._lock:
            session_id, self._session_id = self._session_id, ""
        if not session_id:
            return
        try:
            self._engine.retire(session_id)
        except EngineError:
            # Their deadlines hand the messages out again.
            return

    # --- the thread ---------------------------------------------------------------------------
    def _keep(self) -> None:
        while not self._is_over.wait(self._lease_s / 3):
            try:
                self._beat()
                self._sweep()
            except EngineError:
                # An outage: claims and settles report it to whoever is there to read it.
                continue

    def _beat(self) -> None:
        session_id = self._session_id
        if not session_id:
            return
        number = self._beats + 1
        # One that is not answered may be carried out late: none follows it.
        self._beats = number + 1
        [beat] = self._engine.beat({session_id: self._held.copy()}, number)
        self._beats = number
        self._held.difference_update(beat.lost)
        if not beat.alive and self._session_id == session_id:
            self._session_id = ""

    def _sweep(self) -> None:
        for _ in range(_SWEEPS_PER_BEAT):
            if not self._engine.sweep(_SWEEP_BATCH).more:
                return
