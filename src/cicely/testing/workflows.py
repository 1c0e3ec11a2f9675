"""Random workflows on an engine, against their interpreter: nested five deep, with failures and retries.

Needs `hypothesis`. `check_random_workflows(MyHarness)` runs it. Claims are handed back, outcomes are
repeated, lost, and sent for a session that is gone, replies of enqueues are lost, sessions are retired
with what they hold, the engine is closed and opened, and workflows are written in small pages. In the end
every job has the state and the value that the interpreter says; then the world is mended, the workflow
revived, and nothing that had succeeded may run again.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final
from unittest.mock import patch

import msgspec
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cicely import Cicely, Retry, current
from cicely.canvas import canvas_of
from cicely.core.edge import Edge
from cicely.core.flow import Use
from cicely.core.job import Claim, Enqueued, Kind, NewJob
from cicely.core.outcome import HandedBack, Outcome, Step
from cicely.core.states import State
from cicely.engines.contract import Ask, Demand, Engine, Grant, Save, Session, Verdict
from cicely.errors import Cancelled
from cicely.testing.conformance.harness import Harness
from cicely.testing.interpreter import ATTEMPTS, Interpreter, Tree, flat
from cicely.worker.attempt import run_attempt
from cicely.worker.context import Context
from cicely.workflow.nodes import Call, Chain, Chord, Group, Node, children_of

EXAMPLES: Final = 150
DEPTH: Final = 5
#: More rounds than any example needs: one that needs them stands still.
_ROUNDS: Final = 2_000
_RARELY: Final = 0.08
_SOMETIMES: Final = 0.2

_FAILS: Final = st.sampled_from([0, 0, 0, 0, 1, 2, ATTEMPTS])


def check_random_workflows(harness: type[Harness], *, examples: int = EXAMPLES) -> None:
    """Run many random workflows on the engine behind `harness`."""
    asked = os.environ.get("CICELY_EXAMPLES")

    @settings(
        max_examples=int(asked or examples),
        derandomize=asked is None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(node=nodes(), seed=st.integers(0, 1 << 32), page=st.sampled_from([1, 3, 1_000]))
    def check(node: Node, seed: int, page: int) -> None:
        named = _named(node, iter(range(10_000)))
        home = harness()
        try:
            with (
                patch("cicely.workflow.pages.PAGE_JOBS", page),
                patch("cicely.workflow.pages.PAGE_EDGES", page + 1),
            ):
                World(home, random.Random(seed)).keep(named)  # noqa: S311  (chance, guarding nothing)
        finally:
            home.destroy()

    check()


# --- canvases -----------------------------------------------------------------------------------


def nodes() -> st.SearchStrategy[Node]:
    """Return canvases nested to a depth of five, of at most some two dozen jobs."""
    call = st.builds(
        lambda fails, immutable: Call(task="work", kwargs={"fails": fails}, immutable=immutable),
        _FAILS,
        st.sampled_from([False, False, False, True]),
    )
    node: st.SearchStrategy[Node] = call
    for _ in range(DEPTH - 1):
        node = _around(call, node)
    return node.filter(lambda one: _count(one) <= _MAX_JOBS)


_MAX_JOBS: Final = 40


def _around(call: st.SearchStrategy[Any], inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    several = st.sampled_from([0, 1, 1, 2, 3]).flatmap(lambda count: st.tuples(*[inner] * count))
    steps = st.sampled_from([1, 2, 3, 3]).flatmap(lambda count: st.tuples(*[inner] * count))
    composed = st.one_of(
        st.builds(lambda steps: Chain(steps=steps), steps),
        st.builds(lambda members: Group(members=members), several),
        st.builds(lambda header, body: Chord(header=Group(members=header), body=body), several, call),
    )
    beside = st.builds(_with_callbacks, composed, st.sampled_from(["", "", "link", "errback"]), call)
    return st.one_of(call, beside, beside)


def _with_callbacks(node: Node, which: str, call: Call) -> Node:
    if which == "errback":
        errback = Call(task="told", kwargs={"fails": 0})
        return msgspec.structs.replace(node, errbacks=(errback,))
    if which == "link" and not isinstance(node, Group):
        return msgspec.structs.replace(node, links=(call,))
    return node


def _count(node: Node) -> int:
    return isinstance(node, Call) + sum(map(_count, children_of(node)))


def _named(node: Node, numbers: Any) -> Node:
    """Return the canvas with a name of its own for each call."""

    def all_of(within: tuple[Node, ...]) -> tuple[Node, ...]:
        return tuple(_named(one, numbers) for one in within)

    match node:
        case Call():
            kwargs = {**node.kwargs, "name": f"{node.task}{next(numbers)}"}
            node = msgspec.structs.replace(node, kwargs=kwargs)
        case Chain():
            node = msgspec.structs.replace(node, steps=all_of(node.steps))
        case Group():
            node = msgspec.structs.replace(node, members=all_of(node.members))
        case Chord():
            header = msgspec.structs.replace(node.header, members=all_of(node.header.members))
            node = msgspec.structs.replace(node, header=header, body=_named(node.body, numbers))
    return msgspec.structs.replace(node, links=all_of(node.links), errbacks=all_of(node.errbacks))


# --- the world they run in ----------------------------------------------------------------------


class World:
    """An app on an engine, and a worker that is careless with all that may be repeated or lost."""

    def __init__(self, home: Harness, chance: random.Random) -> None:
        self.home = home
        self.chance = chance
        self.engine = home.engine()
        for verb in ("enqueue", "publish", "steer"):
            setattr(self.engine, verb, self._carelessly(getattr(self.engine, verb)))
        self.app = Cicely("workflows")
        self.app.use(self.engine)
        self.is_mended = False
        self.succeeded: Counter[str] = Counter()
        self.told: list[tuple[str, str]] = []
        self._is_holding = False
        self._late: list[tuple[str, Outcome]] = []
        self._sessions = 0
        self._requests = 0
        self._declare()

    def _declare(self) -> None:
        retry = Retry(attempts=ATTEMPTS, backoff=0, jitter=0)

        @self.app.task(name="work", retry=retry)
        def work(*given: Any, name: str, fails: int) -> list[Any]:
            if current().attempt <= fails and not self.is_mended:
                raise ValueError(name)
            self.succeeded[name] += 1
            return [name, *given]

        self.work = work

        @self.app.task(name="told")
        def told(job_id: str, error: str, traceback: str, *, name: str, fails: int) -> list[Any]:
            assert "Traceback" in traceback
            self.told.append((job_id, error))
            return [name]

    def keep(self, node: Node) -> None:
        """Run `node` and compare; then mend the world, revive it, run it and compare again."""
        expected = Interpreter()
        tree = expected.whole(node)
        handle: Any = canvas_of(self.app._connection, node).delay()  # noqa: SLF001
        self.run()
        assert self.ends() == expected.ends
        self._compare(handle, tree)
        self._check_told()
        done = Counter(self.succeeded)
        self.is_mended = True
        ids = [job.id for job in self.app.jobs()]
        if not ids or all(end.is_well for end in flat(tree)):
            return
        if isinstance(node, Call) and len(ids) == 1:
            handle.revive()
        else:
            self.app.workflow(ids[0]).revive()
        self.run()
        mended = Interpreter(is_mended=True).whole(node)
        self._compare(handle, mended)
        again = {name for name, count in self.succeeded.items() if done[name] and count > done[name]}
        assert not again, f"ran again after they had succeeded: {again}"

    def _compare(self, handle: Any, tree: Tree) -> None:
        if isinstance(tree, list):
            children = handle.children
            assert len(children) == len(tree)
            for child, within in zip(children, tree, strict=True):
                self._compare(child, within)
            return
        assert handle.state is tree.state
        if tree.is_well:
            assert handle.get(timeout=0) == tree.value

    def _check_told(self) -> None:
        names = {job.id: self._name_of(job.id) for job in self.app.jobs()}
        for job_id, error in self.told:
            assert error == f"ValueError: {names[job_id]}"

    def ends(self) -> Counter[tuple[str, State, str]]:
        """Return how often jobs of each name ended in which state, with which value."""
        ends: Counter[tuple[str, State, str]] = Counter()
        for job in self.app.jobs():
            value = job.get(timeout=0) if job.state is State.SUCCEEDED else None
            ends[self._name_of(job.id), job.state, repr(value)] += 1
        return ends

    def _name_of(self, job_id: str) -> str:
        [record] = self.engine.get([job_id])
        assert record is not None
        _, kwargs = self.app.values(self.engine).unpack_call(job_id, record.body)
        return str(kwargs["name"])

    def _carelessly(self, call: Any) -> Any:
        """Return a verb that is sometimes called twice, as if its reply was lost, and followed by work."""

        def called(*args: Any, **kwargs: Any) -> Any:
            answer = call(*args, **kwargs)
            if self._is(_SOMETIMES):
                call(*args, **kwargs)
            if self._is(_SOMETIMES):
                self.run()
            return answer

        return called

    # --- its worker ---------------------------------------------------------------------------
    def run(self) -> None:
        """Run all that can run, until nothing is left to do."""
        session_id = self._join()
        for _ in range(_ROUNDS):
            self._requests += 1
            demand = Demand(
                request=self._requests.to_bytes(8),
                queues=("default",),
                asks=(Ask(kinds=(Kind.SYNC,), slots=self.chance.randint(1, 4)),),
            )
            claims = list(self.engine.claim(session_id, demand).claims)
            if not claims and not self._has_more():
                if not self._is_holding:
                    return
                session_id = self._gone(session_id)
            self.chance.shuffle(claims)
            for claim in claims:
                self._carry_out(session_id, claim)
            if self._is(_RARELY):
                session_id = self._gone(session_id)
        raise AssertionError(f"not done after {_ROUNDS:,} rounds")

    def _is(self, probability: float) -> bool:
        return self.chance.random() < probability

    def _gone(self, session_id: str) -> str:
        """Retire a session, which gives back what it holds, and return another, of a process that begins."""
        self._is_holding = False
        self.engine.retire(session_id)
        self.engine.close()
        self.engine.open()
        for gone_id, outcome in self._late:
            assert self.engine.settle(gone_id, [outcome]).verdicts == (Verdict.STALE,)
        self._late.clear()
        return self._join()

    def _join(self) -> str:
        self._sessions += 1
        session_id = f"s{self._sessions}"
        self.engine.join(
            Session(id=session_id, worker=session_id, tasks=frozenset(self.app.runnable_tasks()))
        )
        return session_id

    def _has_more(self) -> bool:
        swept = self.engine.sweep(100)
        if swept.more or swept.promoted:
            return True
        if swept.next_due_in_s is None:
            return any(record.counts.get(State.READY, 0) for record in self.engine.queues())
        self.home.advance(swept.next_due_in_s)
        return True

    def _carry_out(self, session_id: str, claim: Claim) -> None:
        if self._is(_RARELY):
            self.engine.settle(session_id, [HandedBack(claim.token)])
            return
        if self._is(_RARELY):
            self._is_holding = True
            return
        task = self.app.resolve(claim.task)
        assert task is not None
        values = self.app.values(self.engine)
        link = _Link(self.engine, session_id, claim)
        context = Context(claim, link, values=values, app=self.app)
        outcome = run_attempt(claim, task, values, context)
        if self._is(_RARELY):
            # It was on its way when its process died, and arrives when nobody waits for it.
            self._is_holding = True
            self._late.append((session_id, outcome))
            return
        for _ in range(1 + self._is(_SOMETIMES)):
            self.engine.settle(session_id, [outcome])


class _Link:
    """What a running attempt says is of no concern here."""

    def __init__(self, engine: Engine, session_id: str, claim: Claim) -> None:
        self._engine = engine
        self._session_id = session_id
        self._claim = claim

    def touch(self) -> None:
        """Note nothing."""

    def progress(self, done: float, total: float | None, message: str) -> None:
        """Keep nothing."""

    def checkpoint(self, state: object) -> None:
        """Keep nothing."""

    def steps(self) -> list[Step]:
        """Return the recorded steps."""
        return self._engine.steps(self._claim.job_id)

    def enqueue(self, jobs: Sequence[NewJob], edges: Sequence[Edge]) -> Sequence[Enqueued]:
        """Enqueue what the job adds."""
        return self._engine.enqueue(jobs, edges)

    def acquire(self, request: bytes, uses: Sequence[Use]) -> Grant:
        """Take some of limits."""
        return self._engine.acquire(self._session_id, self._claim.token, request, uses)

    def release(self, request: bytes, spent: Mapping[str, float]) -> None:
        """Give back what was acquired."""
        self._engine.release(self._session_id, self._claim.token, request, spent)

    def record(self, step: Step) -> None:
        """Record a step."""
        [is_kept] = self._engine.save(self._session_id, [Save(self._claim.token, steps=(step,))])
        if not is_kept:
            raise Cancelled("this attempt's claim was lost")
