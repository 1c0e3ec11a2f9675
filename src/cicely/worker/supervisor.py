"""The parent of a worker: starts, watches, replaces and stops children; runs no user code.

One loop waits for the zygote's news, the keeper's news, the children's words and signals, and looks
at the boards a few times a second: limits, and claims that wait behind a long attempt. It never
talks to the engine itself; that is the keeper's, so that a limit holds while an engine is away.
"""

from __future__ import annotations

import logging
import select
import signal
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from cicely.core.outcome import HandedBack, Outcome
from cicely.engines.connect import connect
from cicely.engines.contract import Engine, Session, decode_setting
from cicely.upkeep import schedules, settings
from cicely.worker.blame import blame, ends_of_neighbours
from cicely.worker.board import Running
from cicely.worker.cgroups import memory_groups
from cicely.worker.control import CannotWork, Drain, Joined, Lost, TakenBack, WrapUp
from cicely.worker.hello import first_lines
from cicely.worker.identity import Identity
from cicely.worker.keeper import OWNER_GIVES_UP, Acknowledged, Keeper
from cicely.worker.limits import STOPPING, limit_outcome
from cicely.worker.line import Gone, Lapsed
from cicely.worker.nursery import ForkRefused, Zygote, ZygoteDied, ZygoteStalled
from cicely.worker.options import WorkerOptions
from cicely.worker.processes import boottime, death_of, kill_marked, tree_rss_bytes
from cicely.worker.restarts import Restarts
from cicely.worker.scaler import Scaler
from cicely.worker.signals import StopSignals
from cicely.worker.stopping import Stop
from cicely.worker.ward import Ward

log = logging.getLogger("cicely.worker")

LOOK_S: Final = 0.05
#: Where memory limits are sampled, so often: a fast allocation overshoots by what it gets in that time.
LOOK_AT_MEMORY_S: Final = 0.01
IDLE_LOOK_S: Final = 0.25
RSS_S: Final = 1.0


class Supervisor:
    """One worker. `run` returns its exit code; `announce` gets lines for people."""

    def __init__(
        self, options: WorkerOptions, *, announce: Callable[[str], None] = lambda line: None
    ) -> None:
        self._identity = Identity(options)
        self._options = options
        self._announce = announce
        self._children: dict[int, Ward] = {}
        self._restarts = Restarts()
        self._scaler = Scaler(options.scale, worker=self.id)
        self._stop = Stop(options.grace_s)
        self._next_number = 1
        self._rss_at = 0.0

    # --- life ---------------------------------------------------------------------------------
    def run(self) -> int:
        """Work until told to stop. Raises PreloadFailed, ConfigError or EngineError at the start."""
        self._memory_groups, self._memory_limits = memory_groups()
        self._zygote = self._start_zygote()
        self._identity.manifest = self._zygote.manifest
        try:
            self._engine = self._open_engine()
            self._keeper = Keeper(self._engine, self.id, lease_s=self._options.lease_s)
            self._signals = StopSignals()
            self._say_hello()
            self._keeper.start()
            self._declare()
            while not self._is_over():
                self._turn_or_replace_zygote()
            return self._end()
        finally:
            self._zygote.close()

    def _start_zygote(self) -> Zygote:
        return Zygote.start(
            self._options.target,
            mark=self._identity.mark,
            deadline_at=boottime() + OWNER_GIVES_UP * self._options.lease_s + 60.0,
            python_path=self._options.python_path,
        )

    def _open_engine(self) -> Engine:
        engine = connect(self.url, role="worker")
        engine.open()
        engine.join(self._session())
        return engine

    def _session(self) -> Session:
        return self._identity.session()

    @property
    def id(self) -> str:
        """The session of the worker itself; another one after the engine has given it up."""
        return self._identity.id

    @property
    def url(self) -> str:
        """The engine's URL, known as soon as the app is imported: from the first announcement on."""
        return self._identity.url

    def _say_hello(self) -> None:
        lines = first_lines(
            self._engine.facts(),
            self._options,
            name=self._identity.name,
            groups=self._identity.groups,
            memory_limits=self._memory_limits,
            threads_of_app=self._zygote.threads,
        )
        for line in lines:
            self._announce(line)

    def _declare(self) -> None:
        """Bring what the code declares into the engine."""
        specs: dict[str, bytes] = self._zygote.manifest.get("schedules", {})
        if specs:
            self._keeper.post(lambda: schedules.declare(self._engine, specs))
        declared = [decode_setting(data) for data in self._zygote.manifest.get("settings", ())]
        if declared:
            self._keeper.post(lambda: settings.declare(self._engine, declared))
        if hooks := self._zygote.manifest.get("hooks", ()):
            self._keeper.run_hooks(hooks)

    def _is_over(self) -> bool:
        return self._stop.is_on and not self._children

    def _end(self) -> int:
        self._keeper.post(lambda: self._engine.retire(self.id))
        self._keeper.finish(timeout_s=self._stop.farewell_s)
        self._engine.close()
        if self._memory_groups is not None:
            self._memory_groups.close()
        return 1 if self._restarts.excuse else 0

    # --- one turn -----------------------------------------------------------------------------
    def _turn_or_replace_zygote(self) -> None:
        try:
            self._turn()
        except (ZygoteDied, ZygoteStalled) as error:
            self._replace_zygote(error)

    def _turn(self) -> None:
        self._scale()
        self._start_missing()
        poller = select.poll()
        poller.register(self._zygote, select.POLLIN)
        poller.register(self._keeper, select.POLLIN)
        poller.register(self._signals, select.POLLIN)
        for child in self._children.values():
            if child.control is not None:
                poller.register(child.control, select.POLLIN)
        poller.poll(self._wait_s() * 1000)
        for _ in range(self._signals.received()):
            self._hear_stop()
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
        if self._memory_groups is None and any(running.memory_bytes for running in attempts):
            return LOOK_AT_MEMORY_S
        if attempts or self._stop.is_on or self._is_short_of_children():
            return LOOK_S
        return IDLE_LOOK_S

    # --- children -----------------------------------------------------------------------------
    @property
    def _working(self) -> list[Ward]:
        return [child for child in self._children.values() if not child.is_draining]

    def _is_short_of_children(self) -> bool:
        return len(self._working) < self._scaler.processes

    def _scale(self) -> None:
        """Have as many children as the backlog wants; one too many ends after what it runs."""
        if self._stop.is_on:
            return
        if self._scaler.is_due(boottime()):
            queues = frozenset(self._identity.queues)
            self._keeper.post(lambda: self._scaler.look(self._engine, queues))
        before = self._scaler.processes
        wanted = self._scaler.decide(boottime())
        if wanted != before:
            self._announce(f"from {before} to {wanted} child processes, as the backlog wants")
        while len(self._working) > wanted:
            min(self._working, key=lambda child: len(child.board.running())).drain()

    def _start_missing(self) -> None:
        while not self._stop.is_on and self._is_short_of_children():
            if not self._restarts.may_start(boottime()):
                return
            self._start_child()

    def _start_child(self) -> None:
        child = Ward(self._next_number, self._options, self._memory_groups)
        self._next_number += 1
        child.board.deadline_at = boottime() + OWNER_GIVES_UP * self._options.lease_s
        try:
            cgroup = str(self._memory_groups.folder) if self._memory_groups is not None else ""
            begin = self._identity.begin(child.number, child.session_id, cgroup=cgroup)
            child.be_born(self._zygote, self._engine, begin, note_failure=self._keeper.note_failure)
        except (ForkRefused, ZygoteStalled, ZygoteDied) as error:
            log.warning("no child could be started, trying again: %s", error)
            self._restarts.note_refusal(boottime())
            child.close()
            child.board.close()
        else:
            self._children[child.pid] = child

    def _hear_child(self, child: Ward) -> None:
        try:
            words = child.heard()
        except msgspec.MsgspecError as error:
            log.warning("child %d says what cannot be read; killing it: %s", child.number, error)
            self._kill(child)
            return
        for word in words:
            match word:
                case Joined():
                    child.has_joined = True
                    self._restarts.note_birth()
                    self._beat_for_children()
                    if self._stop.is_on:
                        child.say(Drain())
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
                child.say(Lost(beat.lost))
            child.cancel(beat.cancelled, by=boottime() + self._options.cancel_grace_s)

    def _start_over(self) -> None:
        """Register anew after the engine gave this whole worker up (it was stopped for too long)."""
        log.warning("the engine gave this worker up; it registers anew")
        self._identity.renew()
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
            kill_marked(self._identity.mark)
        except TimeoutError as error:
            # A dead zygote is noticed again in the next turn.
            log.warning("the children of a dead zygote do not end yet: %s", error)
            return
        self._zygote.close()
        for child in list(self._children.values()):
            child.is_dying = True
            self._bury(self._children.pop(child.pid), -signal.SIGKILL)
        self._zygote = self._start_zygote()
        self._identity.manifest = self._zygote.manifest
        self._declare()

    def _bury(self, child: Ward, status: int) -> None:
        """Give back what a dead child held; its whole tree is gone."""
        self._hear_child(child)
        outcomes = tuple(child.outcomes)
        if not (outcomes or child.is_dying or child.excuse):
            outcomes = blame(child.board, status)
        ends = (*outcomes, *ends_of_neighbours(child.board, outcomes))
        self._beat_for_children()
        self._keeper.post(child.hear_out)
        self._retire(child, ends)
        if child.excuse:
            self._note_failure(child)
        elif outcomes or (status != 0 and not child.is_dying):
            log.warning("child %d %s", child.number, death_of(status))
        child.close()
        # By the keeper, which may be writing on it right now.
        self._keeper.post(child.board.close)

    def _retire(self, child: Ward, ends: Sequence[Outcome]) -> None:
        session_id = child.session_id
        if ends or child.board.held() != frozenset():
            self._stop.owing.add(session_id)

        def retire() -> None:
            self._engine.retire(session_id, ends)
            self._stop.owing.discard(session_id)

        self._keeper.post(retire)

    def _note_failure(self, child: Ward) -> None:
        log.error("child %d cannot work: %s", child.number, child.excuse)
        if child.excuse != self._restarts.excuse:
            self._announce(f"a child cannot work: {child.excuse}")
        self._restarts.note_failure(child.excuse, boottime())

    def _kill(self, child: Ward, outcomes: Sequence[Outcome] = ()) -> None:
        if child.is_dying:
            return
        child.is_dying = True
        child.outcomes = list(outcomes)
        self._zygote.kill(child.pid)

    # --- limits -------------------------------------------------------------------------------
    def _look_at(self, child: Ward) -> None:
        if child.is_dying:
            return
        for attempt, verdict in child.verdicts():
            self._end_attempt(child, attempt, verdict)
        self._give_back(child, child.take_back())

    def _end_attempt(self, child: Ward, attempt: Running, verdict: int) -> None:
        if not attempt.pid:
            self._kill(child, [limit_outcome(attempt, verdict)])
        elif attempt.pid != child.pid and not child.board.verdict(attempt.slot):
            child.board.judge(attempt.slot, verdict)
            self._zygote.kill(attempt.pid)

    def _give_back(self, child: Ward, tokens: Sequence[bytes]) -> None:
        if not tokens:
            return
        reason = "another job ran longer than expected"
        outcomes = [HandedBack(token, reason) for token in tokens]
        session_id = child.session_id
        self._keeper.post(lambda: self._engine.settle(session_id, outcomes))
        child.say(TakenBack(tuple(tokens)))

    def _look_at_memory_of_children(self) -> None:
        if not self._options.max_rss_bytes or boottime() < self._rss_at:
            return
        self._rss_at = boottime() + RSS_S
        for child in self._children.values():
            if not child.is_draining and tree_rss_bytes(child.pid) > self._options.max_rss_bytes:
                log.info("child %d holds more than max_rss: it ends after its jobs", child.number)
                child.drain()

    # --- stopping -----------------------------------------------------------------------------
    def _hear_stop(self) -> None:
        if not self._stop.ask(boottime()):
            return
        held = sum(len(child.board.running()) for child in self._children.values())
        self._announce(
            f"stopping: {held} jobs run on for up to {self._options.grace_s:g} s; "
            "a second signal hands them back at once"
        )
        for child in self._children.values():
            child.drain()

    def _press_on_with_the_stop(self) -> None:
        now = boottime()
        if self._stop.asks_to_wrap_up(now):
            for child in self._children.values():
                child.say(WrapUp())
        if self._stop.kills(now):
            for child in self._children.values():
                child.judge_attempts(STOPPING)
                self._kill(child)
