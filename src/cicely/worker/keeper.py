"""The supervisor's conversation with the engine, in a thread of its own.

It beats for every child's session, sweeps, rescues silent sessions, and carries out what the main
loop posts (settle for a child, retire one). The main loop, which enforces limits, never waits for
an engine.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from cicely.core.failpoints import failpoint
from cicely.engines.contract import Beat, Engine, SessionRecord, Silent
from cicely.errors import EngineError
from cicely.upkeep.rescue import Watch, gone
from cicely.worker.board import Board
from cicely.worker.processes import boottime, is_alive, kill_marked, this_host

log = logging.getLogger("cicely.worker")

#: The share of a lease after which its owner gives up, counted from its last acknowledged beat.
OWNER_GIVES_UP: Final = 0.8
SWEEP_S: Final = 1.0
WATCH_S: Final = 2.0
SWEEP_BATCH: Final = 500
_RETRY_S: Final = 0.1

Call = Callable[[], object]


class Acknowledged(msgspec.Struct, frozen=True):
    """The engine counted a beat: everybody may live until `deadline_at`."""

    deadline_at: float
    beats: tuple[Beat, ...]


class Keeper:
    """Engine duties of one worker; news for the main loop come through `news` and `fileno`."""

    def __init__(self, engine: Engine, worker_id: str, *, lease_s: float) -> None:
        self.late_beats = 0
        self._engine = engine
        self._worker_id = worker_id
        self._lease_s = lease_s
        self._host = this_host()
        self._watch = Watch()
        self._boards: Mapping[str, Board] = {}
        self._last_held: dict[str, frozenset[bytes]] = {}
        self._calls: deque[Call] = deque()
        self._news: deque[Acknowledged] = deque()
        self._news_bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._beat_at = self._sweep_at = self._watch_at = 0.0
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="cicely-keeper", daemon=True)

    # --- called by the main loop --------------------------------------------------------------
    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def fileno(self) -> int:
        """Return a descriptor that is readable when there is news."""
        return self._news_bell

    def news(self) -> list[Acknowledged]:
        """Return what has been acknowledged since the last call."""
        try:
            os.eventfd_read(self._news_bell)
        except BlockingIOError:
            return []
        news = []
        while self._news:
            news.append(self._news.popleft())
        return news

    def beat_for(self, boards: Mapping[str, Board]) -> None:
        """Beat from now on for these sessions, whose claims stand on these boards."""
        self._boards = dict(boards)

    def post(self, call: Call) -> None:
        """Have an engine call carried out, soon and in order, repeated until it is answered."""
        self._calls.append(call)
        os.eventfd_write(self._wake, 1)

    def finish(self, timeout_s: float) -> None:
        """Carry out what was posted, then end; give up after `timeout_s`."""
        self._is_over = True
        os.eventfd_write(self._wake, 1)
        self._thread.join(timeout_s)

    # --- the thread ---------------------------------------------------------------------------
    def _run(self) -> None:
        bell = self._engine.doorbell(self._worker_id)
        bell.arm()
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        if bell.fileno() >= 0:
            poller.register(bell.fileno(), select.POLLIN)
        while not (self._is_over and not self._calls):
            self._carry_out_calls()
            now = time.monotonic()
            for duty in self._duties_due(now):
                self._attempt(duty)
            ready = {fd for fd, _ in poller.poll(self._wait_ms())}
            if self._wake in ready:
                os.eventfd_read(self._wake)
            if bell.fileno() in ready:
                # Somebody cancelled a job that may run here: a beat tells which.
                bell.disarm()
                bell.arm()
                self._beat_at = 0.0
        bell.close()

    def _wait_ms(self) -> float:
        if self._calls or self._is_over:
            return 0.0
        nearest = min(self._beat_at, self._sweep_at, self._watch_at)
        return max(1.0, (nearest - time.monotonic()) * 1000)

    def _duties_due(self, now: float) -> list[Call]:
        due: list[Call] = []
        if now >= self._beat_at:
            self._beat_at = now + self._lease_s / 3
            due.append(self._beat)
        if now >= self._watch_at:
            self._watch_at = now + min(WATCH_S, self._lease_s / 3)
            due.append(self._rescue)
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_S
            due.append(self._sweep)
        return due

    def _attempt(self, duty: Call) -> None:
        try:
            duty()
        except EngineError as error:
            log.warning("the engine refused a duty of this worker: %s", error)
            self._watch.blink()
            self._beat_at = min(self._beat_at, time.monotonic() + self._lease_s / 10)
        except Exception:
            # Without its keeper a worker is dead within a lease: whatever happened, go on.
            log.exception("a duty of this worker failed")
            self._watch.blink()

    def _carry_out_calls(self) -> None:
        while self._calls:
            failpoint("worker.before-call")
            try:
                self._calls[0]()
            except EngineError as error:
                log.warning("the engine does not answer, trying again: %s", error)
                time.sleep(_RETRY_S)
                return
            except Exception:
                log.exception("a call to the engine failed and is dropped")
            self._calls.popleft()

    # --- duties -------------------------------------------------------------------------------
    def _beat(self) -> None:
        boards = self._boards
        held: dict[str, frozenset[bytes]] = {self._worker_id: frozenset()}
        for session_id, board in boards.items():
            tokens = board.held()
            held[session_id] = self._last_held.get(session_id, frozenset()) if tokens is None else tokens
        self._last_held = held
        sent_at = boottime()
        beats = self._engine.beat(held)
        failpoint("worker.after-beat")
        if boottime() - sent_at > 1.0:
            self.late_beats += 1
        deadline_at = sent_at + OWNER_GIVES_UP * self._lease_s
        for session_id, board in boards.items():
            if any(beat.session_id == session_id and beat.alive for beat in beats):
                board.deadline_at = deadline_at
        self._news.append(Acknowledged(deadline_at, tuple(beats)))
        os.eventfd_write(self._news_bell, 1)

    def _sweep(self, silent: tuple[Silent, ...] = ()) -> None:
        swept = self._engine.sweep(SWEEP_BATCH, silent)
        failpoint("worker.after-sweep")
        now = time.monotonic()
        if swept.more:
            self._sweep_at = now
        elif swept.next_due_in_s is not None:
            self._sweep_at = min(self._sweep_at, now + swept.next_due_in_s)

    def _rescue(self) -> None:
        own = {self._worker_id, *self._boards}
        others = [r for r in self._engine.sessions() if r.session.id not in own]
        others = [record for record in others if record.session.worker != self._worker_id]
        silent = {silent.session_id: silent for silent in self._watch.look(others, now=boottime())}
        for record in gone(others, host=self._host, is_alive=is_alive):
            silent[record.session.id] = Silent(record.session.id, record.beat)
        if silent and self._has_killed([r for r in others if r.session.id in silent]):
            log.warning("rescuing %d silent sessions", len(silent))
            self._sweep(tuple(silent.values()))

    def _has_killed(self, records: list[SessionRecord]) -> bool:
        """Kill what is left of these workers on this host: it must be gone before its jobs run again.

        A worker that is merely stopped, its zygote too, still has children that run.
        """
        here = [record.session for record in records if self._host.sees(record.session.host)]
        try:
            for mark in {session.mark for session in here if session.mark}:
                kill_marked(mark)
        except TimeoutError as error:
            log.warning("a rescue has to wait: %s", error)
            return False
        return True
