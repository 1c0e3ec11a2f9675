"""Random verbs of reservations: what workflows keep of workers, draw and free, among all the others."""

from __future__ import annotations

from typing import Final

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from cicely.core.flow import Flow
from cicely.core.job import NewJob
from cicely.core.outcome import Deferred, Failed, Outcome, Stopped, Succeeded, Suspended
from cicely.core.reservations import EVERYTHING
from cicely.core.resources import Amounts
from cicely.testing.choices import BACK, QUEUES, plain_job
from cicely.testing.flow_verbs import FlowMachine
from cicely.testing.pair import Ending
from cicely.testing.verbs import latest
from cicely.testing.workflow_verbs import KEEP_S, WORKFLOWS

GPU: Final = Flow(resources=(("gpu", 1.0),))
FLOWS: Final = st.sampled_from(
    [
        GPU,
        GPU,
        Flow(resources=(("gpu", 2.0),)),
        Flow(resources=(("gpu", 1.0), ("memory", 1.0))),
        Flow(resources=(("memory", 1.5),)),
        Flow(resources=(("memory", 3.0),)),
    ]
)

#: Outcomes that keep or free something.
RESERVING: Final = st.sampled_from(
    [
        Succeeded(b"", b"result", keeps=("gpu",)),
        Succeeded(b"", b"result", keeps=("gpu", "memory")),
        Succeeded(b"", b"result", keeps=("memory",), frees=("gpu",)),
        Succeeded(b"", b"result", keeps=("gpu",), frees=(EVERYTHING,)),
        Succeeded(b"", b"result", frees=("gpu",)),
        Failed(b"", "error", b"why", retry_in_s=5.0625, frees=("memory",)),
        Failed(b"", "error", b"why", retry_in_s=0.0, elsewhere=True),
        Failed(b"", "error", b"why", frees=(EVERYTHING,)),
        Deferred(b"", 0.0, "not yet", frees=("gpu",)),
        Stopped(b"", "asked to", frees=("gpu",)),
        Suspended(b"", delay_s=5.0625, frees=("memory",)),
    ]
)


class ReservingMachine(FlowMachine):
    """What clients may do to an engine, reservations among it."""

    @initialize()
    def begin(self) -> None:
        """Start with a workflow that has reserved something, and with jobs that want it."""
        self.join()
        self.join()
        self._enqueue([_of_workflow(n, "w", GPU) for n in range(3)])
        self.run_reserving(1, [Succeeded(b"", b"result", keeps=("gpu",))])
        self._enqueue([_of_workflow(3, "v", GPU), plain_job(4)])

    @rule(
        count=st.integers(1, 3),
        workflow=st.sampled_from(WORKFLOWS),
        flow=FLOWS,
        queue=st.sampled_from(QUEUES),
        task=st.sampled_from(["work", "work", "other"]),
        delay_s=st.sampled_from([0.0, 0.0, 10.0625]),
    )
    def enqueue_wanting(self, count: int, workflow: str, flow: Flow, **options: object) -> None:
        """Enqueue jobs of a workflow that want what it may have reserved."""
        first = len(self.jobs)
        new = [_of_workflow(first + n, workflow, flow) for n in range(count)]
        self._enqueue([msgspec.structs.replace(job, **options) for job in new])

    @precondition(lambda self: self.claims)
    @rule(back=BACK, outcome=RESERVING, is_repeated=st.booleans())
    def settle_reserving(self, back: int, outcome: Outcome, *, is_repeated: bool) -> None:
        """Settle one of the latest claims with an outcome that keeps or frees something."""
        ending = Ending(latest(self.claims, back), outcome)
        self._settle(ending.held.session_id, [ending] * (1 + is_repeated))

    @rule(back=BACK, outcomes=st.lists(RESERVING, min_size=1, max_size=4))
    def run_reserving(self, back: int, outcomes: list[Outcome]) -> None:
        """Claim jobs and settle each with an outcome that keeps or frees something."""
        self.run(back, outcomes)

    @precondition(lambda self: self.jobs)
    @invariant()
    def i11_what_is_reserved_and_what_is_used_beside_it_is_there(self) -> None:
        """Add what is reserved and not drawn to what runs, and compare that with what workers have."""
        shown = self.pair.snapshot()
        known = next((job_id for job_id, job in shown.jobs.items() if job and not job.swept), None)
        if known is None:
            return
        offers = {self.workers[r.session.id]: r.session.offers for r in shown.sessions}
        taken: dict[str, list[Amounts]] = {}
        for one in self.pair.reservations(known):
            assert one.worker in offers, f"{one} is of a worker that is gone"
            taken.setdefault(one.worker, []).append(one.left)
        for job in self._kept().values():
            if job.units:
                taken.setdefault(self.workers[job.session], []).append(job.units)
        for worker, amounts in taken.items():
            for name, unit in {(n, u) for units in amounts for n, of in units.items() for u in of}:
                used = sum(units.get(name, {}).get(unit, 0.0) for units in amounts)
                assert used <= offers[worker][name][unit], f"{used} of {name} {unit} taken on {worker}"


def _of_workflow(number: int, workflow: str, flow: Flow) -> NewJob:
    return msgspec.structs.replace(
        plain_job(number), workflow=workflow, flow=flow, keep_s=KEEP_S, keep_failed_s=KEEP_S
    )
