"""One seed from beginning to end, and its judgement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from unittest import mock

import msgspec

from cicely.core.job import Job
from cicely.testing.cluster.jobs import QUEUES, Plan
from cicely.testing.cluster.ledger import Broken, Ledger
from cicely.testing.cluster.outside import Producer, Reader, Saboteur
from cicely.testing.cluster.server import LATE_S, Network, Server
from cicely.testing.cluster.supervisor import Machine, Supervisor
from cicely.testing.cluster.world import BOOTED_AT, World, virtual_time
from cicely.testing.invariants import Invariants
from cicely.testing.pair import Snapshot
from cicely.worker import keeper

HOURS: Final = 24
#: So long before the end nothing is asked for any more, and nothing breaks.
QUIET_S: Final = 7 * 3_600.0
CHECK_EVERY: Final = 200
#: The places of each child: 20 children of three supervisors.
WIDTHS: Final = ((1, 1, 1, 1, 1, 2, 2), (1, 1, 1, 1, 1, 2, 2), (1, 1, 1, 2, 2, 2))
HOSTS: Final = ("a", "a", "b")


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """How a seed went; `broken` is the promise that was broken, "" for none."""

    seed: int
    broken: str
    digest: str
    events: int
    jobs: int
    starts: int
    re_runs: int
    killed_midway: int
    stale: int


class Witness(Invariants):
    """The invariants of the random verbs, looked at on the server alone."""

    def __init__(self, server: Server) -> None:
        # Without a pair, and without rules.
        self._server = server
        self.pair = self  # type: ignore[assignment]
        self.jobs = server.stored
        self.gone = set()
        self.fences = {}
        self.ends = server.ends
        self.stale_accepted = []
        self._snapshot: Snapshot | None = None

    def check(self) -> None:
        """Look once. Raises AssertionError."""
        self._snapshot = self._look()
        self.i1_every_accepted_job_is_kept_until_its_retention_ends()
        self.i2_a_final_state_is_left_only_by_revive()
        self.i3_only_the_current_token_is_accepted()
        self.i4_a_job_has_one_claim_and_its_fence_only_rises()
        self.i5_a_running_job_is_held_by_an_open_session()
        self.i6_attempts_end_with_a_reason_and_within_the_cut_offs()
        self.i7_a_key_has_one_liveplain_job()
        self.i14_counts_are_those_of_the_jobs()

    def _look(self) -> Snapshot:
        ids = [new.id for new in self.jobs if new.id not in self.gone]
        records = self._server.queues()
        return Snapshot(
            jobs=dict(zip(ids, self._server.get(ids), strict=True)),
            found=(),
            failed=(),
            counts={r.name: {s: n for s, n in r.counts.items() if n} for r in records},
            paused=(),
            sessions=tuple(self._server.sessions()),
        )

    def snapshot(self) -> Snapshot:
        """Return what was seen at the last look."""
        assert self._snapshot is not None
        return self._snapshot

    def unfinished(self) -> list[Job]:
        """Return the jobs that have not ended."""
        return [job for job in self._kept().values() if not job.state.is_final]


class Cluster:
    """Three supervisors, their children, one engine, and what happens to them."""

    def __init__(self, seed: int, *, show: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.world = World(seed, show=show)
        self.faults = self.world.between(0.1, 0.3)
        self.server = Server(self.world, Ledger())
        self.network = Network(self.world, self.server, faults=self.faults)
        self.plans: dict[str, Plan] = {}
        self.supervisors: list[Supervisor] = []
        self.is_quiet = False
        self._machines = {name: Machine(name) for name in sorted(set(HOSTS))}
        self._numbers = 0
        self._dead: list[Supervisor] = []
        self._witness = Witness(self.server)

    # --- life -----------------------------------------------------------------------------
    def live(self) -> Verdict:
        """Let 24 hours pass, the last of them in peace, and judge."""
        broken = ""
        with (
            virtual_time(self.world),
            mock.patch.object(keeper, "is_alive", self._is_alive),
            mock.patch.object(keeper, "kill_marked", self._kill_marked),
        ):
            try:
                self._live()
            except AssertionError as error:
                broken = str(error) or type(error).__name__
            finally:
                for supervisor in (*self.supervisors, *self._dead):
                    supervisor.close()
        ledger = self.server.ledger
        return Verdict(
            seed=self.seed,
            broken=broken,
            digest=self.world.digest,
            events=self.world.events,
            jobs=len(self.server.stored),
            starts=ledger.starts,
            re_runs=ledger.re_runs,
            killed_midway=ledger.killed_midway,
            stale=ledger.stale,
        )

    def _live(self) -> None:
        for place in range(len(HOSTS)):
            self._start(place)
        Producer(self)
        Reader(self)
        Saboteur(self)
        end_at = BOOTED_AT + HOURS * 3_600.0
        self.world.after(end_at - QUIET_S - self.world.now, self._calm)
        while self.world.step(end_at):
            if self.world.events % CHECK_EVERY == 0:
                self._witness.check()
        self._witness.check()
        self._judge_end()

    def _calm(self) -> None:
        self.world.note("from here on nothing breaks")
        self.is_quiet = True
        self.network.faults = 0.0
        self.server.set_right()
        self._resume()
        # A pause may arrive after what was to end it.
        self.world.after(2 * LATE_S, self._resume)

    def _resume(self) -> None:
        for queue in QUEUES:
            self.server.resume(queue)

    def _judge_end(self) -> None:
        for job in self._witness.unfinished():
            raise Broken(f"liveness: {job.id} is still {job.state} ({job.reason}, held by {job.session!r})")
        unknown = self.server.ledger.acknowledged - {new.id for new in self.server.stored}
        if unknown:
            raise Broken(f"lost: {sorted(unknown)} were acknowledged and never stored")

    # --- workers --------------------------------------------------------------------------
    def _start(self, place: int) -> None:
        self._numbers += 1
        name = f"w{self._numbers}"
        self.world.note(f"{name} starts on {HOSTS[place]}")
        supervisor = Supervisor(
            self.world,
            self.network,
            self._machines[HOSTS[place]],
            name=name,
            widths=WIDTHS[place],
            plans=self.plans,
        )
        if place < len(self.supervisors):
            self.supervisors[place] = supervisor
        else:
            self.supervisors.append(supervisor)

    def replace(self, victim: Supervisor, *, after_s: float) -> None:
        """Kill a supervisor, and start another in its place."""
        if victim.is_dead:
            return
        victim.die()
        self._dead.append(victim)
        place = self.supervisors.index(victim)
        self.world.after(after_s, lambda: self._start(place))

    def _is_alive(self, pid: int, _start_time: int) -> bool:
        return any(pid in machine.pids for machine in self._machines.values())

    def _kill_marked(self, mark: str) -> None:
        for supervisor in (*self.supervisors, *self._dead):
            if supervisor.mark == mark:
                supervisor.kill_marked()
