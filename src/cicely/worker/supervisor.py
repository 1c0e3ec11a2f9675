"""The parent of a worker: starts, watches, replaces and stops children; runs no user code.

One loop waits for the zygote's news, the keeper's news, the children's words and signals, and looks
at the boards a few times a second: limits, and claims that wait behind a long attempt. It never
talks to the engine itself; that is the keeper's, so that a limit holds while an engine is away.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from cicely.core.intake import TAKE_BACK_S
from cicely.core.outcome import Crashed, HandedBack, Outcome
from cicely.engines.connect import connect
from cicely.engines.contract import Engine, Session
from cicely.worker.board import Board, Running
from cicely.worker.clerk import Clerk
from cicely.worker.control import (
    Begin,
    Cancel,
    CannotWork,
    Control,
    Drain,
    Joined,
    Lost,
    TakenBack,
    WrapUp,
    pair,
)
from cicely.worker.handover import Handover
from cicely.worker.isolation import (
    CANCELLED,
    STALLED,
    STOPPING,
    TIMED_OUT,
    TOO_LARGE,
    death_of,
    limit_outcome,
)
from cicely.worker.keeper import OWNER_GIVES_UP, Acknowledged, Keeper
from cicely.worker.line import Gone, Lapsed
from cicely.worker.nursery import ForkRefused, Zygote, ZygoteDied, ZygoteStalled
from cicely.worker.processes import boottime, kill_marked, start_time, this_host, tree_rss_bytes
from cicely.worker.queues import Groups, groups_to_serve

log = logging.getLogger("cicely.worker")

LOOK_S: Final = 0.05
#: Memory limits are sampled so often: a fast allocation overshoots by what it gets in that time.
LOOK_AT_MEMORY_S: Final = 0.01
IDLE_LOOK_S: Final = 0.25
RSS_S: Final = 1.0
WRAP_UP_S: Final = 2.0
LAST_WORDS_S: Final = 0.5
FORK_AGAIN_S: Final = 0.25
RESTART_S: Final = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)


class WorkerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker runs. `groups` are queues with weights; empty: all that the app declares.

    `grace_s` is the time that running jobs get after the first SIGTERM, `cancel_grace_s` after a
    cancellation; then their process is killed. `url` overrides the app's own.
    """

    target: str
    url: str = ""
    groups: Groups = ()
    processes: int = 2
    threads: int = 1
    coroutines: int = 100
    max_jobs: int = 0
    max_rss_bytes: int = 0
    lease_s: float = 30.0
    grace_s: float = 8.0
    cancel_grace_s: float = 5.0
    name: str = ""
    python_path: tuple[str, ...] = ()


class _Child:
    """A child as its supervisor knows it."""

    def __init__(self, number: int, options: WorkerOptions) -> None:
        self.number = number
        self.session_id = os.urandom(12).hex()
        self.board = Board.create(threads=options.threads, coroutines=options.coroutines)
        self.plain = Handover.create()
        self.loop = Handover.create()
        self.pid = 0
        self.control: Control | None = None
        self.clerk: Clerk | None = None
        self.has_joined = False
        self.is_draining = False
        self.is_dying = False
        self.excuse = ""
        #: Outcomes of the attempts for whose limits this child was killed.
        self.outcomes: list[Outcome] = []
        #: Per hand-over: the count of starts when it last grew, and when that was.
        self.progress: dict[int, tuple[int, float]] = {}
        self.cancel_by: dict[bytes, float] = {}
        self.born_at = boottime()

    def close(self) -> None:
        """Give everything back but the board."""
        if self.control is not None:
            self.control.close()
        self.plain.close()
        self.loop.close()


class Supervisor:
    """One worker. `run` returns its exit code; `announce` gets lines for people."""

    def __init__(
        self, options: WorkerOptions, *, announce: Callable[[str], None] = lambda line: None
    ) -> None:
        self.id = os.urandom(12).hex()
        self.mark = os.urandom(12).hex()
        self._options = options
        self._announce = announce
        self._children: dict[int, _Child] = {}
        self._failures = 0
        self._restart_at = 0.0
        self._next_number = 1
        self._stopping_since = 0.0
        self._has_wrapped_up = False
        self._must_kill = False
        self._rss_at = 0.0
        self._signals: int = -1
        self._excuse = ""

    # --- life ---------------------------------------------------------------------------------
    def run(self) -> int:
        """Work until told to stop. Raises PreloadFailed, ConfigError or EngineError at the start."""
        self._zygote = self._start_zygote()
        try:
            self._engine = self._open_engine()
            self._keeper = Keeper(self._engine, self.id, lease_s=self._options.lease_s)
            self._listen_to_signals()
            self._say_hello()
            self._keeper.start()
            while not self._is_over():
                self._turn_or_replace_zygote()
            return self._end()
        finally:
            self._zygote.close()

    def _start_zygote(self) -> Zygote:
        return Zygote.start(
            self._options.target,
            mark=self.mark,
            deadline_at=boottime() + OWNER_GIVES_UP * self._options.lease_s + 60.0,
            python_path=self._options.python_path,
        )

    def _open_engine(self) -> Engine:
        engine = connect(self.url, role="worker")
        engine.open()
        engine.join(self._session())
        return engine

    def _session(self) -> Session:
        return Session(
            id=self.id,
            worker=self.id,
            lease_s=self._options.lease_s,
            host=this_host(),
            pid=os.getpid(),
            start_time=start_time(os.getpid()) or 0,
            mark=self.mark,
            name=self._name,
            queues=tuple(name for group in self._groups for name, _ in group),
        )

    @property
    def url(self) -> str:
        """The engine's URL, known as soon as the app is imported: from the first announcement on."""
        return self._options.url or str(self._zygote.manifest["url"])

    @property
    def _name(self) -> str:
        return self._options.name or f"{os.uname().nodename}:{os.getpid()}"

    @property
    def _groups(self) -> Groups:
        return groups_to_serve(self._options.groups, self._zygote.manifest["queues"])

    def _say_hello(self) -> None:
        facts = self._engine.facts()
        options = self._options
        names = [name for group in self._groups for name, _ in group]
        self._announce(f"{facts.engine} {facts.version} at {facts.address}")
        self._announce(f"durability: {facts.durability}")
        self._announce(
            f"worker {self._name}: {options.processes} processes of {options.threads} threads, "
            f"queues {', '.join(names)}, lease {options.lease_s:g} s"
        )
        for warning in facts.warnings:
            self._announce(f"warning: {warning}")
        if self._zygote.threads:
            running = ", ".join(self._zygote.threads)
            self._announce(f"importing the app starts threads ({running}): each child imports it again")

    def _listen_to_signals(self) -> None:
        read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._signals = read_end
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, lambda signum, frame: None)

    def _is_over(self) -> bool:
        return self._stopping_since > 0 and not self._children

    def _end(self) -> int:
        self._keeper.post(lambda: self._engine.retire(self.id))
        self._keeper.finish(timeout_s=10.0)
        self._engine.close()
        return 1 if self._excuse else 0

    # --- one turn -----------------------------------------------------------------------------
    def _turn_or_replace_zygote(self) -> None:
        try:
            self._turn()
        except (ZygoteDied, ZygoteStalled) as error:
            self._replace_zygote(error)

    def _turn(self) -> None:
        self._start_missing()
        poller = select.poll()
        poller.register(self._zygote, select.POLLIN)
        poller.register(self._keeper, select.POLLIN)
        poller.register(self._signals, select.POLLIN)
        for child in self._children.values():
            if child.control is not None:
                poller.register(child.control, select.POLLIN)
        poller.poll(self._wait_s() * 1000)
        self._hear_signals()
        for child in list(self._children.values()):
            self._hear_child(child)
        for news in self._keeper.news():
            self._hear_keeper(news)
        self._hear_zygote()
        for child in list(self._children.values()):
            self._look_at(child)
        self._look_at_memory_of_children()
        self._press_on_with_the_stop()

    def _wait_s(self) -> float:
        attempts = [r for child in self._children.values() for r in child.board.running()]
        if any(running.memory_bytes for running in attempts):
            return LOOK_AT_MEMORY_S
        if attempts or self._stopping_since or self._is_short_of_children():
            return LOOK_S
        return IDLE_LOOK_S

    # --- children -----------------------------------------------------------------------------
    def _is_short_of_children(self) -> bool:
        working = sum(1 for child in self._children.values() if not child.is_draining)
        return working < self._options.processes

    def _start_missing(self) -> None:
        while not self._stopping_since and self._is_short_of_children():
            if boottime() < self._restart_at:
                return
            self._start_child()

    def _start_child(self) -> None:
        options = self._options
        child = _Child(self._next_number, options)
        self._next_number += 1
        child.board.deadline_at = boottime() + OWNER_GIVES_UP * options.lease_s
        begin = Begin(
            session_id=child.session_id,
            worker_id=self.id,
            name=f"{self._name}/{child.number}",
            mark=self.mark,
            lease_s=options.lease_s,
            groups=self._groups,
            threads=options.threads,
            coroutines=options.coroutines,
            max_jobs=options.max_jobs,
            target=options.target,
        )
        ours, theirs = pair()
        clerks, desk = socket.socketpair()
        ring_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        fds = [
            child.board.fd,
            child.plain.read_fd,
            child.plain.write_fd,
            child.loop.read_fd,
            child.loop.write_fd,
            theirs.fileno(),
            desk.fileno(),
            ring_fd,
        ]
        child.control = Control(ours)
        child.clerk = Clerk(self._engine, child.session_id, clerks, ring_fd)
        child.clerk.start()
        try:
            child.pid = self._zygote.fork("child", msgspec.msgpack.encode(begin), fds=fds)
        except (ForkRefused, ZygoteStalled, ZygoteDied) as error:
            log.warning("no child could be started, trying again: %s", error)
            self._restart_at = boottime() + FORK_AGAIN_S
            child.close()
            child.board.close()
        else:
            self._children[child.pid] = child
        finally:
            theirs.close()
            desk.close()

    def _hear_child(self, child: _Child) -> None:
        if child.control is None:
            return
        try:
            words = child.control.heard()
        except msgspec.MsgspecError as error:
            log.warning("child %d says what cannot be read; killing it: %s", child.number, error)
            self._kill(child)
            return
        except EOFError:
            child.control.close()
            child.control = None
            return
        for word in words:
            match word:
                case Joined():
                    child.has_joined = True
                    self._failures = 0
                    self._excuse = ""
                    self._beat_for_children()
                    if self._stopping_since:
                        child.control.say(Drain())
                case CannotWork(reason=reason):
                    child.excuse = reason
                case _:
                    log.warning("a child said something unexpected: %s", type(word).__name__)

    def _beat_for_children(self) -> None:
        joined = [child for child in self._children.values() if child.has_joined]
        self._keeper.beat_for({child.session_id: child.board for child in joined})

    # --- the engine's answers -----------------------------------------------------------------
    def _hear_keeper(self, news: Acknowledged) -> None:
        self._zygote.hold_until(news.deadline_at)
        by_session = {child.session_id: child for child in self._children.values()}
        for beat in news.beats:
            child = by_session.get(beat.session_id)
            if beat.session_id == self.id and not beat.alive:
                self._start_over()
            if child is None or child.control is None:
                continue
            if not beat.alive:
                log.warning("the engine gave child %d up; killing it", child.number)
                self._kill(child)
            if beat.lost:
                child.control.say(Lost(beat.lost))
            new = [token for token in beat.cancelled if token not in child.cancel_by]
            if new:
                child.control.say(Cancel(tuple(new)))
                by = boottime() + self._options.cancel_grace_s
                child.cancel_by.update(dict.fromkeys(new, by))

    def _start_over(self) -> None:
        """Register anew after the engine gave this whole worker up (it was stopped for too long)."""
        log.warning("the engine gave this worker up; it registers anew")
        # Under another id: the old one is closed for ever.
        self.id = os.urandom(12).hex()
        for child in self._children.values():
            self._kill(child)
        self._keeper.start_over(self._session())

    # --- the zygote's news --------------------------------------------------------------------
    def _hear_zygote(self) -> None:
        events = self._zygote.events()
        if any(isinstance(event, Lapsed) for event in events):
            log.warning("no beat was acknowledged in time: all children were killed")
            for child in self._children.values():
                child.is_dying = True
        for event in events:
            if isinstance(event, Gone) and event.pid in self._children:
                self._bury(self._children.pop(event.pid), event.status)

    def _replace_zygote(self, why: ZygoteDied | ZygoteStalled) -> None:
        """Without its zygote nothing of the family may live on."""
        log.error("starting another zygote, and all children anew: %s", why)
        try:
            kill_marked(self.mark)
        except TimeoutError as error:
            # A dead zygote is noticed again in the next turn.
            log.warning("the children of a dead zygote do not end yet: %s", error)
            return
        self._zygote.close()
        for child in list(self._children.values()):
            child.is_dying = True
            self._bury(self._children.pop(child.pid), -signal.SIGKILL)
        self._zygote = self._start_zygote()

    def _bury(self, child: _Child, status: int) -> None:
        """Give back what a dead child held; its whole tree is gone."""
        self._hear_child(child)
        outcomes = tuple(child.outcomes) or self._blame(child, status)
        ends = (*outcomes, *_ends_of_neighbours(child, outcomes))
        session_id = child.session_id
        self._beat_for_children()
        if child.clerk is not None:
            # What it had said before it died comes first: the outcomes in it count.
            clerk = child.clerk
            self._keeper.post(lambda: clerk.finish(LAST_WORDS_S))
        self._keeper.post(lambda: self._engine.retire(session_id, ends))
        if child.excuse:
            self._note_failure(child)
        elif outcomes or (status != 0 and not child.is_dying):
            log.warning("child %d %s", child.number, death_of(status))
        child.close()
        # By the keeper, which may be writing on it right now.
        self._keeper.post(child.board.close)

    def _blame(self, child: _Child, status: int) -> tuple[Outcome, ...]:
        """Charge the one attempt that can have killed its child; of several, make suspects."""
        if child.is_dying or child.excuse:
            return ()
        started = [running for running in child.board.running() if not running.pid]
        how = death_of(status)
        if len(started) == 1:
            return (Crashed(started[0].token, how),)
        reason = f"one of {len(started)} jobs whose process {how}"
        return tuple(HandedBack(running.token, reason, alone=True, has_started=True) for running in started)

    def _note_failure(self, child: _Child) -> None:
        log.error("child %d cannot work: %s", child.number, child.excuse)
        if child.excuse != self._excuse:
            self._announce(f"a child cannot work: {child.excuse}")
        self._excuse = child.excuse
        wait_s = RESTART_S[min(self._failures, len(RESTART_S) - 1)]
        self._failures += 1
        self._restart_at = boottime() + wait_s

    def _kill(self, child: _Child, outcomes: Sequence[Outcome] = ()) -> None:
        if child.is_dying:
            return
        child.is_dying = True
        child.outcomes = list(outcomes)
        self._zygote.kill(child.pid)

    # --- limits -------------------------------------------------------------------------------
    def _look_at(self, child: _Child) -> None:
        if child.is_dying:
            return
        running = child.board.running()
        for attempt in running:
            verdict = self._verdict(child, attempt)
            if verdict:
                self._end_attempt(child, attempt, verdict)
        live = {attempt.token for attempt in running}
        child.cancel_by = {token: by for token, by in child.cancel_by.items() if token in live}
        self._take_back(child)

    def _verdict(self, child: _Child, attempt: Running) -> int:
        now = boottime()
        if attempt.deadline_at and now > attempt.deadline_at:
            return TIMED_OUT
        if attempt.stall_s and now > attempt.touched_at + attempt.stall_s:
            return STALLED
        if now > child.cancel_by.get(attempt.token, float("inf")):
            return CANCELLED
        is_forked = attempt.pid not in (0, child.pid)
        if attempt.memory_bytes and is_forked:
            return TOO_LARGE if tree_rss_bytes(attempt.pid) > attempt.memory_bytes else 0
        return 0

    def _end_attempt(self, child: _Child, attempt: Running, verdict: int) -> None:
        if not attempt.pid:
            self._kill(child, [limit_outcome(attempt, verdict)])
        elif attempt.pid != child.pid and not child.board.verdict(attempt.slot):
            child.board.judge(attempt.slot, verdict)
            self._zygote.kill(attempt.pid)

    def _take_back(self, child: _Child) -> None:
        """Give back claims before which nothing has started for a while."""
        now = boottime()
        for handover, starts in zip((child.plain, child.loop), child.board.starts, strict=True):
            before, since = child.progress.get(handover.read_fd, (-1, now))
            if starts != before or not handover.is_waiting:
                child.progress[handover.read_fd] = (starts, now)
            elif now - since >= TAKE_BACK_S:
                self._give_back(child, handover.take_all())

    def _give_back(self, child: _Child, tokens: list[bytes]) -> None:
        if not tokens:
            return
        reason = "another job ran longer than expected"
        outcomes = [HandedBack(token, reason) for token in tokens]
        session_id = child.session_id
        self._keeper.post(lambda: self._engine.settle(session_id, outcomes))
        if child.control is not None:
            child.control.say(TakenBack(tuple(tokens)))

    def _look_at_memory_of_children(self) -> None:
        if not self._options.max_rss_bytes or boottime() < self._rss_at:
            return
        self._rss_at = boottime() + RSS_S
        for child in self._children.values():
            if not child.is_draining and tree_rss_bytes(child.pid) > self._options.max_rss_bytes:
                log.info("child %d holds more than max_rss: it ends after its jobs", child.number)
                self._drain(child)

    # --- stopping -----------------------------------------------------------------------------
    def _hear_signals(self) -> None:
        try:
            received = os.read(self._signals, 64)
        except BlockingIOError:
            return
        for signum in received:
            if signum in (signal.SIGTERM, signal.SIGINT):
                self._stop()

    def _stop(self) -> None:
        if self._stopping_since:
            self._must_kill = True
            return
        self._stopping_since = boottime()
        held = sum(len(child.board.running()) for child in self._children.values())
        self._announce(
            f"stopping: {held} jobs run on for up to {self._options.grace_s:g} s; "
            "a second signal hands them back at once"
        )
        for child in self._children.values():
            self._drain(child)

    def _drain(self, child: _Child) -> None:
        child.is_draining = True
        if child.control is not None:
            child.control.say(Drain())

    def _press_on_with_the_stop(self) -> None:
        if not self._stopping_since:
            return
        ran_s = boottime() - self._stopping_since
        if ran_s > self._options.grace_s and not self._has_wrapped_up:
            self._has_wrapped_up = True
            for child in self._children.values():
                if child.control is not None:
                    child.control.say(WrapUp())
        if self._must_kill or ran_s > self._options.grace_s + WRAP_UP_S:
            for child in self._children.values():
                self._stop_attempts(child)
                self._kill(child)

    def _stop_attempts(self, child: _Child) -> None:
        for attempt in child.board.running():
            if attempt.pid:
                child.board.judge(attempt.slot, STOPPING)


def _ends_of_neighbours(child: _Child, judged: Sequence[Outcome]) -> list[Outcome]:
    """Say how the other attempts ended that stood on a dead child's board."""
    done = {outcome.token for outcome in judged}
    ends: list[Outcome] = []
    for attempt in child.board.running():
        verdict = child.board.verdict(attempt.slot)
        if attempt.token in done:
            continue
        if verdict:
            ends.append(limit_outcome(attempt, verdict))
        else:
            ends.append(
                HandedBack(attempt.token, "its process ended for no fault of its own", has_started=True)
            )
    return ends
