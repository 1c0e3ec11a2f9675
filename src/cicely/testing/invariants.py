"""What must hold after every verb: the invariants I1 to I7, I11, I12 and I14, by name."""

from __future__ import annotations

from collections import Counter

from hypothesis.stateful import RuleBasedStateMachine, invariant

from cicely.core.flow import Use
from cicely.core.job import Job, NewJob
from cicely.core.limits import Limit
from cicely.core.outcome import MAX_CRASHES, MAX_LOST
from cicely.core.resources import Amounts
from cicely.core.states import State
from cicely.core.valves import Valve, key_of
from cicely.engines.contract import Demand, Silent
from cicely.testing.conformance.harness import Harness
from cicely.testing.flow_pair import FlowPair
from cicely.testing.pair import Ending, Held


class Invariants(RuleBasedStateMachine):
    """A pair of engines, what was done to them, and what must hold of the one under test."""

    #: The engine under test.
    subject: type[Harness]

    def __init__(self) -> None:
        super().__init__()
        self.pair = FlowPair(self.subject())
        self.jobs: list[NewJob] = []
        self.sessions: list[str] = []
        self.requests: list[tuple[str, Demand]] = []
        self.claims: list[Held] = []
        self.endings: list[Ending] = []
        self.watched: list[Silent] = []
        self.gone: set[str] = set()
        self.fences: dict[str, int] = {}
        self.ends: dict[str, State] = {}
        self.stale_accepted: list[Ending] = []
        #: Of each session, its worker; what claims acquired, by request; and how many held a key before.
        self.workers: dict[str, str] = {}
        self.acquired: dict[bytes, tuple[Held, tuple[Use, ...]]] = {}
        self.released: set[bytes] = set()
        self.holders: Counter[str] = Counter()

    def teardown(self) -> None:
        """Let go of the example's jobs."""
        self.pair.destroy()

    @invariant()
    def i1_every_accepted_job_is_kept_until_its_retention_ends(self) -> None:
        """Look for accepted jobs that were deleted before they ended."""
        jobs = self.pair.snapshot().jobs
        for job_id in {new.id for new in self.jobs} - self.gone:
            if jobs[job_id] is None:
                assert job_id in self.ends, f"{job_id} was deleted before it ended"
                self.gone.add(job_id)

    @invariant()
    def i2_a_final_state_is_left_only_by_revive(self) -> None:
        """Compare each ended job with how it ended."""
        for job_id, job in self._kept().items():
            end = self.ends.get(job_id)
            assert end is None or job.state is end, f"{job_id}: {end} became {job.state}"
            if job.state.is_final:
                self.ends[job_id] = job.state
            if job.state is State.SUCCEEDED and not job.swept:
                assert job.attempts[-1].reason == "succeeded"

    @invariant()
    def i3_only_the_current_token_is_accepted(self) -> None:
        """Look for accepted outcomes of claims that held nothing."""
        assert self.stale_accepted == []

    @invariant()
    def i4_a_job_has_one_claim_and_its_fence_only_rises(self) -> None:
        """Compare fences with the attempts, and with what they were before."""
        for job_id, job in self._kept().items():
            if not job.swept:
                assert job.fence >= self.fences.get(job_id, 0), f"{job_id}: the fence fell"
                self.fences[job_id] = job.fence
                assert job.fence >= len(job.attempts) + (job.state is State.RUNNING)

    @invariant()
    def i5_a_running_job_is_held_by_an_open_session(self) -> None:
        """Compare what runs with the open sessions and what they count as held."""
        shown = self.pair.snapshot()
        running = [job.session for job in self._kept().values() if job.state is State.RUNNING]
        held = {record.session.id: record.held for record in shown.sessions if record.held}
        assert Counter(running) == Counter(held)

    @invariant()
    def i6_attempts_end_with_a_reason_and_within_the_cut_offs(self) -> None:
        """Look for attempts without a reason and for tallies past their cut-offs."""
        for job_id, job in self._kept().items():
            assert all(record.reason for record in job.attempts), f"{job_id}: no reason"
            assert job.tallies.crashes <= MAX_CRASHES
            assert job.tallies.lost <= MAX_LOST

    @invariant()
    def i7_a_key_has_one_liveplain_job(self) -> None:
        """Count the live jobs of each `unique` key."""
        live = [job for job in self._kept().values() if not job.state.is_final]
        keys = Counter(job.unique for job in live if job.unique)
        assert all(count == 1 for count in keys.values()), keys

    @invariant()
    def i11_limits_and_resources_are_never_exceeded_and_never_leaked(self) -> None:
        """Compare what limits count as held with a recount, and that with the limits."""
        if not self.pair.controls_flow:
            return
        holders = self._holders()
        for record in self.pair.standings():
            if not isinstance(record.setting, Valve):
                continue
            key = key_of(record.setting)
            assert record.held == holders[key], f"{key}: {record.held} held, {holders[key]} run"
            most = record.setting.concurrency if isinstance(record.setting, Limit) else None
            # Claims from before the limit was set, or lowered, go on to their end.
            assert most is None or record.held <= max(most, self.holders[key]), f"{key}: above its limit"
        self.holders = holders
        self._check_resources()

    def _holders(self) -> Counter[str]:
        """Return how many claims hold each key: as they were claimed, and as they acquired of it since."""
        jobs = self._kept()
        running = [job for job in jobs.values() if job.state is State.RUNNING]
        claimed = Counter(key for job in running if job.flow for key in job.flow.keys)
        current = {(job.id, job.session, job.fence) for job in running}
        acquired = (
            use.key
            for request, (held, uses) in self.acquired.items()
            if request not in self.released and (held.job_id, held.session_id, held.fence) in current
            for use in uses
        )
        return claimed + Counter(acquired)

    def _check_resources(self) -> None:
        taken: dict[str, list[Amounts]] = {}
        for job in self._kept().values():
            assert job.state is State.RUNNING or not job.units, f"{job.id} has units and does not run"
            if job.units:
                taken.setdefault(self.workers[job.session], []).append(job.units)
        offers = {self.workers.get(r.session.id, ""): r.session.offers for r in self.pair.snapshot().sessions}
        for worker, amounts in taken.items():
            for name, unit in {(n, u) for units in amounts for n, of in units.items() for u in of}:
                used = sum(units.get(name, {}).get(unit, 0.0) for units in amounts)
                assert used <= offers[worker][name][unit], f"{used} of {name} {unit} used on {worker}"

    def i12_what_nothing_holds_back_is_handed_out(self) -> None:
        """Look for ready jobs after sessions that can run them claimed until they were given nothing."""
        left = [job.id for job in self._kept().values() if job.state is State.READY and job.task != "unknown"]
        assert left == [], f"{left} were never handed out"

    @invariant()
    def i14_counts_are_those_of_the_jobs(self) -> None:
        """Compare what queues show with a recount."""
        recount: dict[str, Counter[State]] = {}
        for job in self._kept().values():
            if not job.swept:
                recount.setdefault(job.queue, Counter())[job.state] += 1
        shown = self.pair.snapshot().counts
        assert {queue: dict(c) for queue, c in recount.items()} == {
            queue: counts for queue, counts in shown.items() if counts
        }

    def _kept(self) -> dict[str, Job]:
        return {job_id: job for job_id, job in self.pair.snapshot().jobs.items() if job}
