"""Random verbs of workflows: edges, publications, suspended jobs and events, among all the others."""

from __future__ import annotations

from typing import Final

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from cicely.core.edge import Edge, Join, Role, Rule
from cicely.core.job import NewJob
from cicely.core.outcome import Await, Step, Suspended
from cicely.engines.contract import Save
from cicely.testing.choices import BACK, plain_job
from cicely.testing.pair import Ending, Held
from cicely.testing.verbs import EngineMachine, latest

#: Longer than any example lasts: when a whole workflow is deleted, the contract leaves to the engine.
KEEP_S: Final = 1e9 + 0.0625

KEYS: Final = ("k", "l")
WORKFLOWS: Final = ("w", "v")

EDGES: Final = st.builds(
    Edge,
    st.just(""),
    st.just(""),
    st.sampled_from([Rule.SUCCESS, Rule.SUCCESS, Rule.FAILURE, Rule.DONE]),
    st.sampled_from(list(Role)),
    st.sampled_from([Join.FIRST, Join.FIRST, Join.ALL]),
    st.sampled_from([False, False, True]),
)


class WorkflowMachine(EngineMachine):
    """What clients may do to an engine, workflows among it."""

    def __init__(self) -> None:
        super().__init__()
        self.signalled = 0

    @rule(
        count=st.integers(2, 5),
        edges=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), EDGES), min_size=1, max_size=7),
        workflow=st.sampled_from(["", *WORKFLOWS]),
        held=st.sampled_from([False, False, True]),
        delay_s=st.sampled_from([0.0, 0.0, 10.0625]),
        is_reply_lost=st.booleans(),
    )
    def enqueue_graph(
        self,
        count: int,
        edges: list[tuple[int, int, Edge]],
        workflow: str,
        delay_s: float,
        *,
        held: bool,
        is_reply_lost: bool,
    ) -> None:
        """Enqueue jobs that come after each other, and perhaps after older ones."""
        first = len(self.jobs)
        held = held and workflow != ""
        new = [_of_workflow(n, workflow, delay_s, held=held) for n in range(first, first + count)]
        ids = [job.id for job in new]
        older = [job.id for job in self.jobs if job.keep_s == KEEP_S][-3:]
        drawn = [self._edge(a, b, edge, older + ids) for a, b, edge in edges]
        unlike = {(edge.parent, edge.child): edge for edge in drawn if edge is not None}
        self._enqueue_all(new, list(unlike.values()))
        if is_reply_lost:
            assert not any(answer.fresh for answer in self.pair.enqueue(new, list(unlike.values())))

    def _edge(self, before: int, after: int, edge: Edge, ids: list[str]) -> Edge | None:
        """Return an edge from an earlier job to a later one, so that there are no cycles."""
        a, b = sorted((before % len(ids), after % len(ids)))
        return None if a == b else msgspec.structs.replace(edge, parent=ids[a], child=ids[b])

    @rule(workflow=st.sampled_from(WORKFLOWS))
    def publish(self, workflow: str) -> None:
        """Publish a workflow, perhaps again."""
        self.pair.publish(workflow)

    @precondition(lambda self: self.claims)
    @rule(
        back=BACK,
        delay_s=st.sampled_from([None, 20.0625]),
        awaits=st.sampled_from([None, *KEYS]),
        publishes=st.sampled_from(["", *WORKFLOWS]),
        step=st.sampled_from(["one", "two"]),
    )
    def suspend(
        self, back: int, delay_s: float | None, awaits: str | None, publishes: str, step: str
    ) -> None:
        """Suspend one of the latest claims: for a time, for an event, or for nothing."""
        held = latest(self.claims, back)
        event = None if awaits is None else Await("go", awaits, f"{held.fence}:{awaits}")
        self._suspend(held, Suspended(b"", (Step(step, b"%d" % held.fence),), delay_s, event, (), publishes))

    @precondition(lambda self: self.claims and self.jobs)
    @rule(back=BACK, parent=BACK, edge=EDGES)
    def call(self, back: int, parent: int, edge: Edge) -> None:
        """Suspend one of the latest claims until another job ends."""
        held = latest(self.claims, back)
        parents = [job.id for job in self.jobs if job.id != held.job_id and job.keep_s == KEEP_S]
        if parents and self._is_kept(held):
            edge = msgspec.structs.replace(edge, parent=latest(parents, parent), child=held.job_id)
            self._suspend(held, Suspended(b"", edges=(edge,)))

    def _is_kept(self, held: Held) -> bool:
        return any(job.id == held.job_id and job.keep_s == KEEP_S for job in self.jobs)

    def _suspend(self, held: Held, outcome: Suspended) -> None:
        self._settle(held.session_id, [Ending(held, outcome)])

    @rule(key=st.sampled_from(KEYS), is_repeated=st.booleans())
    def signal(self, key: str, *, is_repeated: bool) -> None:
        """Send an event."""
        self.signalled += 1
        for _ in range(1 + is_repeated):
            self.pair.signal(f"e{self.signalled}", "go", key, b"%d" % self.signalled)

    @precondition(lambda self: self.claims)
    @rule(back=BACK, step=st.sampled_from(["one", "two"]))
    def save_step(self, back: int, step: str) -> None:
        """Record a step under one of the latest claims."""
        self.pair.save(latest(self.claims, back), Save(b"", steps=(Step(step, b"saved"),)))

    @precondition(lambda self: self.jobs)
    @rule(back=BACK)
    def look_behind(self, back: int) -> None:
        """Read what a job comes after, and its steps."""
        self.pair.look_behind(latest(self.jobs, back).id)


def _of_workflow(number: int, workflow: str, delay_s: float, *, held: bool) -> NewJob:
    return msgspec.structs.replace(
        plain_job(number),
        workflow=workflow,
        group=workflow and f"{workflow}{number % 2}",
        held=held,
        delay_s=delay_s,
        keep_s=KEEP_S,
        keep_failed_s=KEEP_S,
    )
