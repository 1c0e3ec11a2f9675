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
from cicely.engines.contract import Beat, Bell, Engine, Session, SessionRecord, Silent
from cicely.errors import EngineError, SessionClosed
from cicely.upkeep.rescue import Orphans, Watch, gone
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
        self._watch_s = min(WATCH_S, lease_s / 3)
        self._watch = Watch(max_gap_s=2 * self._watch_s)
        self._orphans = Orphans()
        self._boards: Mapping[str, Board] = {}
        self._last_held: dict[str, frozenset[bytes]] = {}
        self._calls: deque[Call] = deque()
        self._news: deque[Acknowledged] = deque()
        self._news_bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._beat_at = self._sweep_at = self._watch_at = 0.0
        self._is_over = False
        self._bell: Bell | None = None
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

    def start_over(self, session: Session) -> None:
        """Register this worker anew, as `session`: the engine closed the session it had, for ever."""
        self.post(lambda: self._rejoin(session))

    def finish(self, timeout_s: float) -> None:
        """Carry out what was posted, then end; give up after `timeout_s`."""
        self._is_over = True
        os.eventfd_write(self._wake, 1)
        self._thread.join(timeout_s)

    # --- the thread ---------------------------------------------------------------------------
    def _run(self) -> None:
        while not (self._is_over and not self._calls):
            self._carry_out_calls()
            now = time.monotonic()
            for duty in self._duties_due(now):
                self._attempt(duty)
            self._attempt(self._listen)
            self._rest()
        if self._bell is not None:
            self._bell.close()

    def _listen(self) -> None:
        if self._bell is None:
            self._bell = self._engine.doorbell(self._worker_id)
            self._bell.arm()

    def _rest(self) -> None:
        bell_fd = self._bell.fileno() if self._bell is not None else -1
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        if bell_fd >= 0:
            poller.register(bell_fd, select.POLLIN)
        ready = {fd for fd, _ in poller.poll(self._wait_ms())}
        if self._wake in ready:
            os.eventfd_read(self._wake)
        if self._bell is not None and bell_fd in ready:
            # Somebody cancelled a job that may run here: a beat tells which.
            self._bell.disarm()
            self._bell.arm()
            self._beat_at = 0.0

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
            self._watch_at = now + self._watch_s
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
            except SessionClosed as closed:
                log.warning("dropped, for a session that the engine gave up: %s", closed)
            except EngineError as error:
                log.warning("the engine does not answer, trying again: %s", error)
                time.sleep(_RETRY_S)
                return
            except Exception:
                log.exception("a call to the engine failed and is dropped")
            self._calls.popleft()

    def _rejoin(self, session: Session) -> None:
        self._engine.join(session)
        self._worker_id = session.id
        if self._bell is not None:
            self._bell.close()
            self._bell = None
        self._beat_at = 0.0

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
        records = self._engine.sessions()
        self._retire_orphans(records)
        own = {self._worker_id, *self._boards}
        others = [r for r in records if r.session.id not in own and r.session.worker != self._worker_id]
        silent = self._unchanged({s.session_id: s for s in self._watch.look(others, now=boottime())})
        for record in gone(others, host=self._host, is_alive=is_alive):
            silent[record.session.id] = Silent(record.session.id, record.beat)
        if silent and self._has_killed([r for r in others if r.session.id in silent]):
            log.warning("rescuing %d silent sessions", len(silent))
            self._sweep(tuple(silent.values()))

    def _unchanged(self, silent: dict[str, Silent]) -> dict[str, Silent]:
        """Return those whose beat is still the same: this process may just have been away itself."""
        if not silent:
            return silent
        beats = {record.session.id: record.beat for record in self._engine.sessions()}
        return {name: seen for name, seen in silent.items() if beats.get(name) == seen.beat}

    def _retire_orphans(self, records: list[SessionRecord]) -> None:
        """Retire children of this worker that it does not know: born after it gave up their fork."""
        if self._calls:
            return
        unknown = [
            record
            for record in records
            if record.session.worker == self._worker_id
            and record.session.id not in {self._worker_id, *self._boards}
        ]
        for session_id in self._orphans.look(unknown, host=self._host, is_alive=is_alive):
            log.warning("a child that was born too late is dead: its session is retired")
            self._engine.retire(session_id)

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
