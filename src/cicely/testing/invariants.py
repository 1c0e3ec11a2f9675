"""What must hold after every verb: the invariants I1 to I7 and I14, by name."""

from __future__ import annotations

from collections import Counter

from hypothesis.stateful import RuleBasedStateMachine, invariant

from cicely.core.job import Job, NewJob
from cicely.core.outcome import MAX_CRASHES, MAX_LOST
from cicely.core.states import State
from cicely.engines.contract import Demand, Silent
from cicely.testing.conformance.harness import Harness
from cicely.testing.pair import Ending, Held, Pair


class Invariants(RuleBasedStateMachine):
    """A pair of engines, what was done to them, and what must hold of the one under test."""

    #: The engine under test.
    subject: type[Harness]

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair(self.subject())
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
