"""The supervisor's conversation with the engine, in a thread of its own.

It beats for every child's session, sweeps, keeps the schedules, rescues silent sessions, and carries
out what the main loop posts (settle for a child, retire one). The main loop, which enforces limits,
never waits for an engine.
"""

from __future__ import annotations

import logging
import math
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from cicely.core.failpoints import failpoint
from cicely.engines.contract import Beat, Bell, Engine, Session, SessionRecord, Silent
from cicely.errors import EngineError, SessionClosed
from cicely.upkeep.failures import Hooks
from cicely.upkeep.minutes import REPORT_S, Minutes
from cicely.upkeep.rescue import Orphans, Watch, gone
from cicely.upkeep.schedules import Ticker
from cicely.worker.board import STARTS_WITHIN, Board
from cicely.worker.processes import boottime, is_alive, kill_marked, this_host
from cicely.worker.repeats import Repeats

log = logging.getLogger("cicely.worker")

#: The share of a lease after which its owner gives up, counted from its last acknowledged beat.
OWNER_GIVES_UP: Final = 0.8
SWEEP_S: Final = 1.0
WATCH_S: Final = 2.0
SWEEP_BATCH: Final = 500
_RETRY_S: Final = 0.1

#: The first beat of a session that is made known between two beats.
FIRST_BEAT: Final = 1

Call = Callable[[], object]
Held = Mapping[str, frozenset[bytes]]


class Acknowledged(msgspec.Struct, frozen=True):
    """The engine answered: everybody may live until `deadline_at`."""

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
        self._ticker = Ticker(engine)
        self._hooks = Hooks(engine)
        self._minutes = Minutes(lease_s)
        self._repeats = Repeats()
        self._boards: Mapping[str, Board] = {}
        self._last_held: Held = {}
        self._number = FIRST_BEAT + 1
        #: A beat that is sent from then on follows the last one, which was answered.
        self._follows_at = math.inf
        self._deadline_at = 0.0
        self._is_asking = False
        self._calls: deque[Call] = deque()
        self._news: deque[Acknowledged] = deque()
        self._news_bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._beat_at = self._sweep_at = self._watch_at = 0.0
        self._report_at = time.monotonic() + REPORT_S
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
        """Beat from now on for these sessions, whose claims stand on these boards; at once for new ones."""
        are_new = boards.keys() - self._boards.keys()
        self._boards = dict(boards)
        if are_new:
            # A job of theirs may have been cancelled already: that rang, and the beat named them not.
            self._is_asking = True
            os.eventfd_write(self._wake, 1)

    def post(self, call: Call) -> None:
        """Have an engine call carried out, soon and in order, repeated until it is answered."""
        self._calls.append(call)
        os.eventfd_write(self._wake, 1)

    def note_failure(self) -> None:
        """Note that the engine did not answer another thread of this worker: it is reported with our own."""
        self._minutes.failed(time.monotonic())

    def start_over(self, session: Session) -> None:
        """Register this worker anew, as `session`: the engine closed the session it had, for ever."""
        self.post(lambda: self._rejoin(session))

    def finish(self, timeout_s: float) -> None:
        """Carry out what was posted, then end; give up after `timeout_s`."""
        self._is_over = True
        os.eventfd_write(self._wake, 1)
        self._thread.join(timeout_s)

    def run_hooks(self, specs: Iterable[bytes]) -> None:
        """Run these hooks from now on, for jobs that fail."""
        self.post(lambda: self._hooks.serve(specs))

    # --- the thread ---------------------------------------------------------------------------
    def _run(self) -> None:
        while not (self._is_over and not self._calls):
            self._carry_out_calls()
            now = time.monotonic()
            for duty in self._duties_due(now):
                self._attempt(duty)
            self._attempt(self._listen)
            self._rest()
        self._attempt(self._report)
        if self._bell is not None:
            self._bell.close()

    def _listen(self) -> None:
        if self._bell is None:
            self._bell = self._engine.doorbell(self._worker_id)
            self._bell.arm()
            # A job that was cancelled before this rang nobody.
            self._is_asking = True

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
            # Somebody cancelled a job that may run here.
            self._bell.disarm()
            self._bell.arm()
            self._is_asking = True

    def _wait_ms(self) -> float:
        if self._calls or self._is_over or self._may_ask():
            return 0.0
        nearest = min(self._beat_at, self._sweep_at, self._watch_at)
        return max(1.0, (nearest - time.monotonic()) * 1000)

    def _duties_due(self, now: float) -> list[Call]:
        due: list[Call] = []
        if now >= self._beat_at:
            self._beat_at = now + self._lease_s / 3
            self._is_asking = False
            due.append(self._beat)
        elif self._may_ask():
            self._is_asking = False
            due.append(self._ask)
        if now >= self._watch_at:
            self._watch_at = now + self._watch_s
            due.append(self._rescue)
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_S
            due.append(self._sweep)
        if now >= self._report_at:
            self._report_at = now + REPORT_S
            due.append(self._report)
        return due

    def _attempt(self, duty: Call) -> None:
        try:
            duty()
        except EngineError as error:
            self._complain("the engine refused a duty of this worker", error)
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
                self._complain("the engine does not answer, trying again", error)
                time.sleep(_RETRY_S)
                return
            except Exception:
                log.exception("a call to the engine failed and is dropped")
            self._calls.popleft()

    def _complain(self, what: str, error: EngineError) -> None:
        now = time.monotonic()
        self._minutes.failed(now)
        sentence = f"{what}: {error}"
        if self._repeats.is_due(sentence, now):
            log.warning("%s", sentence)

    def _rejoin(self, session: Session) -> None:
        self._engine.join(session)
        self._worker_id = session.id
        if self._bell is not None:
            self._bell.close()
            self._bell = None
        self._beat_at = 0.0

    # --- duties -------------------------------------------------------------------------------
    def _beat(self) -> None:
        sent_at = boottime()
        held = self._held()
        number = self._next_number(sent_at)
        self._note_beat(self._engine.beat(held, number), sent_at)

    def _ask(self) -> None:
        """Ask what was cancelled, between two beats; for those that never beat it is the first."""
        sent_at = boottime()
        new = self._boards.keys() - self._last_held.keys()
        self._note_answer(self._engine.beat(self._held(), FIRST_BEAT), sent_at, new)

    def _may_ask(self) -> bool:
        return self._is_asking and self._deadline_at > 0.0

    def _held(self) -> Held:
        held: dict[str, frozenset[bytes]] = {self._worker_id: frozenset()}
        for session_id, board in self._boards.items():
            tokens = board.held()
            if tokens is None:
                # What it listed before may lack what has started since.
                tokens = self._last_held.get(session_id, frozenset())
                self._follows_at = math.inf
            held[session_id] = tokens
        self._last_held = held
        return held

    def _next_number(self, now: float) -> int:
        """Return the number of a beat: one more than the last where both together may take a claim back.

        Not so after a beat that was not answered, for it may be carried out late; nor so soon after
        one that a claim whose reply was on its way then may still start.
        """
        self._number += 1 if now >= self._follows_at else 2
        self._follows_at = math.inf
        return self._number

    def _note_beat(self, beats: Sequence[Beat], sent_at: float) -> None:
        failpoint("worker.after-beat")
        answered_at = boottime()
        self._minutes.beaten(time.monotonic())
        if answered_at - sent_at > 1.0:
            self.late_beats += 1
        self._follows_at = answered_at + STARTS_WITHIN * self._lease_s
        self._deadline_at = sent_at + OWNER_GIVES_UP * self._lease_s
        self._note_answer(beats, sent_at, self._boards.keys())

    def _note_answer(self, beats: Sequence[Beat], sent_at: float, counted: Collection[str]) -> None:
        boards = self._boards
        for beat in beats:
            if beat.alive and beat.session_id in counted and beat.session_id in boards:
                boards[beat.session_id].deadline_at = sent_at + OWNER_GIVES_UP * self._lease_s
        self._news.append(Acknowledged(self._deadline_at, tuple(beats)))
        os.eventfd_write(self._news_bell, 1)

    def _sweep(self, silent: tuple[Silent, ...] = ()) -> None:
        swept = self._engine.sweep(SWEEP_BATCH, silent)
        failpoint("worker.after-sweep")
        has_ticked = self._ticker.tick(swept)
        has_more = self._hooks.look(swept)
        now = time.monotonic()
        if swept.more or has_ticked or has_more:
            self._sweep_at = now
        elif swept.next_due_in_s is not None and not swept.due:
            self._sweep_at = min(self._sweep_at, now + swept.next_due_in_s)

    def _report(self) -> None:
        """Tell the engine when this worker was up, and when a call failed."""
        counts = self._minutes.counts(time.monotonic())
        if counts:
            self._engine.report(counts)
        self._minutes.reported()

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
