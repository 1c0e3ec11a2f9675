"""A simulated supervisor with its zygote: the product's keeper and judgements, processes that only seem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from cicely.core.outcome import Outcome
from cicely.engines.contract import Host, Session
from cicely.errors import EngineError
from cicely.testing.cluster.child import CANCEL_GRACE_S, Child
from cicely.testing.cluster.jobs import Plan
from cicely.testing.cluster.keeper import TurnByTurn
from cicely.testing.cluster.server import Network
from cicely.testing.cluster.world import LEASE_S, World
from cicely.worker import keeper
from cicely.worker.blame import blame, ends_of_neighbours
from cicely.worker.board import Board, Running
from cicely.worker.keeper import Acknowledged
from cicely.worker.limits import CANCELLED, limit_outcome, passed_limit
from cicely.worker.restarts import Restarts

ZYGOTE_STARTS_S: Final = 60.0
REPORT_S: Final = 1.0
KILLED: Final = -9


class Machine:
    """A host: what its processes see of each other."""

    def __init__(self, name: str) -> None:
        self.facts = Host(boot_id=name, pid_ns=1, uid=0)
        self.pids: set[int] = set()
        self._base = sum(name.encode()) * 1_000_000
        self._count = 0

    def new_pid(self) -> int:
        """Return the pid of another process, unlike those of all hosts."""
        self._count += 1
        self.pids.add(self._base + self._count)
        return self._base + self._count


class Supervisor:
    """One worker, from its start to its death; `widths` are the places of each of its children."""

    def __init__(
        self,
        world: World,
        network: Network,
        host: Machine,
        *,
        name: str,
        widths: Sequence[int],
        plans: Mapping[str, Plan],
    ) -> None:
        self.world, self.network, self.host, self.plans = world, network, host, plans
        self.name = name
        self.widths = widths
        self.id = f"{name}-{world.random.randbytes(3).hex()}"
        self.mark = self.id
        self.pid = host.new_pid()
        self.is_dead = False
        self.stopped_until = 0.0
        self.cut_off_until = 0.0
        self.children: dict[int, Child] = {}
        #: Of all its children: one that is dead is still read by whoever settles for it.
        self._boards: list[Board] = []
        self._numbers = 0
        self._restarts = Restarts()
        self._keeper: TurnByTurn | None = None
        self._alarm = 0
        self._has_lapsed = False
        self._zygote_until = world.now + keeper.OWNER_GIVES_UP * LEASE_S + ZYGOTE_STARTS_S
        self._hold_until(self._zygote_until)
        self._join()

    @property
    def away_s(self) -> float:
        """For how long it is stopped, from now."""
        return max(0.0, self.stopped_until - self.world.now)

    @property
    def is_cut_off(self) -> bool:
        """Whether its engine is out of its reach."""
        return self.world.now < self.cut_off_until

    def _session(self) -> Session:
        return Session(
            id=self.id,
            worker=self.id,
            lease_s=LEASE_S,
            host=self.host.facts,
            pid=self.pid,
            start_time=self.pid,
            mark=self.mark,
        )

    def _join(self) -> None:
        session, server = self._session(), self.network.server
        self.network.call(self, lambda: server.join(session), then=self._joined, fails=self._not_joined)

    def _not_joined(self, error: EngineError) -> None:
        self.world.after(ZYGOTE_STARTS_S, self._join)

    def _joined(self, _: None) -> None:
        self._keeper = TurnByTurn(self, self.network, self.id, host=self.host.facts)
        self.wake()

    # --- turns --------------------------------------------------------------------------------
    def wake(self) -> None:
        """Do what is to be done now, and again when something is due."""
        if self.is_dead or self.away_s > 0 or self._keeper is None:
            return
        self._keeper.turn()
        for news in self._keeper.news():
            self._hear_keeper(news)
        self.look()
        self._start_missing()
        self._alarm += 1
        alarm = self._alarm
        self.world.after(self._keeper.wait_s(), lambda: self.wake() if alarm == self._alarm else None)

    def _hear_keeper(self, news: Acknowledged) -> None:
        self._hold_until(news.deadline_at)
        children = {child.session_id: child for child in self.children.values()}
        for beat in news.beats:
            child = children.get(beat.session_id)
            if beat.session_id == self.id and not beat.alive:
                self._start_over()
            if child is None or not child.is_alive:
                continue
            if not beat.alive:
                self._kill(child)
            if beat.lost:
                child.lose(beat.lost)
            if beat.cancelled:
                child.cancel(beat.cancelled, by=self.world.now + CANCEL_GRACE_S)

    def _start_over(self) -> None:
        self.world.note(f"{self.name} was given up and registers anew")
        self.id = f"{self.name}-{self.world.random.randbytes(3).hex()}"
        for child in list(self.children.values()):
            self._kill(child)
        assert self._keeper is not None
        self._keeper.start_over(self._session())

    # --- the zygote ---------------------------------------------------------------------------
    def _hold_until(self, deadline_at: float) -> None:
        self._zygote_until = deadline_at
        self._has_lapsed = self._has_lapsed and deadline_at <= self.world.now
        self.world.after(deadline_at - self.world.now, self._keep_deadline)

    def _keep_deadline(self) -> None:
        """Kill all children when the deadline is over; the zygote does so while its supervisor is stopped."""
        if self._has_lapsed or self.world.now < self._zygote_until or self.is_dead:
            return
        self.world.note(f"{self.name} has not been heard in time: its zygote kills all children")
        self._has_lapsed = True
        self.kill_marked()

    def kill_marked(self) -> None:
        """Kill all that carries the mark of this worker, for no fault of a job."""
        for child in list(self.children.values()):
            child.is_dying = True
            child.die(KILLED)

    # --- children -----------------------------------------------------------------------------
    def _start_missing(self) -> None:
        may_fork = not self._has_lapsed and self.world.now < self._zygote_until
        while len(self.children) < len(self.widths) and may_fork and self._restarts.may_start(self.world.now):
            self._numbers += 1
            width = self.widths[self._numbers % len(self.widths)]
            child = Child(self, self._numbers, threads=width)
            child.board.deadline_at = self.world.now + keeper.OWNER_GIVES_UP * LEASE_S
            self.children[child.pid] = child
            self._boards.append(child.board)
            child.join()

    def hears_of_join(self) -> None:
        """Take a new child into the beats."""
        self._restarts.note_birth()
        self._beat_for_children()

    def _beat_for_children(self) -> None:
        if self._keeper is not None:
            joined = [child for child in self.children.values() if child.has_joined]
            self._keeper.beat_for({child.session_id: child.board for child in joined})

    def hears_of_death(self, child: Child) -> None:
        """Bury a child when the zygote has reported that nothing of it is left."""
        self.world.after(REPORT_S + self.away_s, lambda: self._bury(child))

    def _bury(self, child: Child) -> None:
        if self.is_dead or child.pid not in self.children:
            return
        if self.away_s > 0:
            self.hears_of_death(child)
            return
        del self.children[child.pid]
        outcomes = tuple(child.outcomes)
        if not (outcomes or child.is_dying or child.excuse):
            outcomes = blame(child.board, child.status)
        ends = (*outcomes, *ends_of_neighbours(child.board, outcomes))
        self._beat_for_children()
        child.close()
        assert self._keeper is not None
        self._keeper.post_retire(child.session_id, ends)
        if child.excuse:
            self._restarts.note_failure(child.excuse, self.world.now)
        self.wake()

    def _kill(self, child: Child, outcomes: Sequence[Outcome] = ()) -> None:
        if child.is_dying:
            return
        child.is_dying = True
        child.outcomes = list(outcomes)
        child.die(KILLED)

    # --- limits -------------------------------------------------------------------------------
    def look(self) -> None:
        """End the attempts that have passed a limit, or the grace after a cancellation."""
        if self.is_dead or self.away_s > 0:
            return
        for child in list(self.children.values()):
            for running in child.board.running() if child.attempts else ():
                verdict = passed_limit(running, now=self.world.now) or self._grace(child, running)
                if verdict and child.is_alive:
                    self._end_attempt(child, running, verdict)

    def _grace(self, child: Child, running: Running) -> int:
        return CANCELLED if self.world.now > child.cancel_by.get(running.token, float("inf")) else 0

    def _end_attempt(self, child: Child, running: Running, verdict: int) -> None:
        if running.pid:
            child.finish(child.attempts[running.token], limit_outcome(running, verdict))
        else:
            self._kill(child, [limit_outcome(running, verdict)])

    # --- faults -------------------------------------------------------------------------------
    def stop(self, seconds: float) -> None:
        """Be stopped (SIGSTOP), and go on later. The zygote and the children are not."""
        self.stopped_until = self.world.now + seconds
        self.world.after(seconds, self.wake)

    def die(self) -> None:
        """Be killed; the children follow a little later."""
        self.is_dead = True
        self.host.pids.discard(self.pid)
        self.world.after(self.world.between(0, ZYGOTE_STARTS_S), self._end_family)

    def _end_family(self) -> None:
        self.kill_marked()
        self.close()

    def close(self) -> None:
        """Give back what the simulation took from the system."""
        for child in self.children.values():
            child.close()
        for board in self._boards:
            board.close()
        self.children.clear()
        self._boards.clear()
        if self._keeper is not None:
            self._keeper.close()
            self._keeper = None
