"""Random verbs of flow control: lanes, limits, breakers and resources, among all the others."""

from __future__ import annotations

from typing import Final

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from cicely.core.breaker import BreakerRule
from cicely.core.flow import Flow, Use
from cicely.core.job import Kind
from cicely.core.lanes import LaneWeight
from cicely.core.limits import Limit, Rate
from cicely.core.outcome import Deferred, Failed, HandedBack, Outcome, Succeeded, Suspended
from cicely.core.resources import Amounts
from cicely.engines.contract import Ask, Session, Setting
from cicely.testing.choices import BACK, LEASE_S, QUEUES, SLOT_KINDS, plain_job
from cicely.testing.pair import Ending
from cicely.testing.verbs import latest
from cicely.testing.workflow_verbs import WorkflowMachine

#: By worker, what its sessions offer and accept. Clocks move by quarters: no rate opens at one of them.
OFFERS: Final[dict[str, Amounts]] = {
    "boss": {"gpu": {"0": 1.0, "1": 1.0}, "memory": {"": 4.0}},
    "aide": {"memory": {"": 3.0}},
}
ACCEPTS: Final = {"boss": {}, "aide": {"model": ("a",)}}

FLOWS: Final = st.sampled_from(
    [
        Flow(uses=(Use("k"),)),
        Flow(uses=(Use("k"),)),
        Flow(uses=(Use("k"), Use("l"))),
        Flow(uses=(Use("k", {"t": 3.0}),)),
        Flow(uses=(Use("k", {"t": 50.0}),)),
        Flow(breakers=("b",)),
        Flow(uses=(Use("l"),), breakers=("b",)),
        Flow(resources=(("gpu", 1.0),)),
        Flow(resources=(("gpu", 2.0),)),
        Flow(resources=(("gpu", 1.0), ("memory", 2.0))),
        Flow(resources=(("memory", 1.5),)),
        Flow(uses=(Use("k"),), resources=(("memory", 3.0),)),
        Flow(traits=("model=a",)),
        Flow(uses=(Use("l"),), traits=("model=b",)),
        None,
    ]
)

SETTINGS: Final = st.sampled_from(
    [
        Limit(key="k", concurrency=1),
        Limit(key="k", concurrency=3),
        Limit(key="k", rate=Rate(70.0, 61.3)),
        Limit(key="k", concurrency=2, costs={"t": Rate(170.0, 61.3)}),
        Limit(key="l", concurrency=2),
        Limit(key="l", rate=Rate(1.0, 17.3)),
        Limit(key="queue:side", concurrency=1, backlog=4),
        BreakerRule("b", failures=1, within_s=60.0625, cooldown_s=20.0625),
        BreakerRule("b", failures=2, within_s=30.0625, cooldown_s=40.0625),
        LaneWeight("main", "x", 2.0),
        LaneWeight("main", "", 0.5),
    ]
)
NAMES: Final = st.sampled_from(
    [
        ("limit", "k"),
        ("limit", "k"),
        ("limit", "l"),
        ("limit", "queue:side"),
        ("breaker", "b"),
        ("lane", "main/x"),
    ]
)

#: More claims than it takes to run all jobs of an example one by one.
MOST_ROUNDS: Final = 200

#: Outcomes that tell valves something.
TELLING: Final = st.sampled_from(
    [
        Succeeded(b"", b"result", spent={"t": 1.0}),
        Succeeded(b"", b"result", spent={"t": 90.0}),
        Failed(b"", "error", b"why", retry_in_s=5.0625, spent={"t": 7.0}, blames=("b",)),
        Failed(b"", "error", b"why", blames=("b",)),
        Failed(b"", "error", b"why", retry_in_s=0.0, elsewhere=True),
        Failed(b"", "error", b"why", retry_in_s=5.0625, elsewhere=True),
        Deferred(b"", 20.0625, "refused", slows=("k",)),
        Deferred(b"", 5.0625, "refused", spent={"t": 2.0}, slows=("k", "l")),
        Deferred(b"", 0.0, "refused", slows=("other",)),
        HandedBack(b"", "not started"),
        Suspended(b"", delay_s=5.0625, spent={"t": 2.0}),
    ]
)


class FlowMachine(WorkflowMachine):
    """What clients may do to an engine, flow control among it."""

    @initialize()
    def begin(self) -> None:
        """Start with limits and with jobs that they hold back, so that short examples reach something."""
        self.join()
        self.join()
        limits = [
            Limit(key="k", concurrency=3, costs={"t": Rate(170.0, 61.3)}),
            Limit(key="l", concurrency=1),
        ]
        for limit in limits:
            self.pair.configure(limit)
        flows = [Flow(uses=(Use("k", {"t": 3.0}),)), Flow(uses=(Use("l"),), resources=(("gpu", 1.0),))]
        gated = [
            msgspec.structs.replace(plain_job(n), flow=flows[n % 2], lane="x" if n % 3 else "y")
            for n in range(6)
        ]
        self._enqueue([*gated, plain_job(6)])

    def _join(self, session_id: str) -> None:
        worker = "aide" if int(session_id[1:]) % 3 == 0 else "boss"
        self.pair.join(
            Session(
                id=session_id,
                worker=worker,
                tasks=frozenset({"work", "other", ""}),
                lease_s=LEASE_S,
                queues=QUEUES,
                offers=OFFERS[worker],
                accepts=ACCEPTS[worker],
            )
        )
        self.workers[session_id] = worker

    @rule(
        count=st.integers(1, 4),
        task=st.sampled_from(["work", "work", "other"]),
        kind=st.sampled_from(SLOT_KINDS),
        queue=st.sampled_from(QUEUES),
        lane=st.sampled_from(["", "", "x", "y"]),
        priority=st.sampled_from([5, 5, 9]),
        expires_s=st.sampled_from([None, None, 15.0625]),
        flow=FLOWS,
    )
    def enqueue_gated(self, count: int, **options: object) -> None:
        """Enqueue jobs that valves, resources or lanes may hold back."""
        first = len(self.jobs)
        self._enqueue([msgspec.structs.replace(plain_job(first + n), **options) for n in range(count)])

    @rule(setting=SETTINGS)
    def configure(self, setting: Setting) -> None:
        """Keep a setting, perhaps while claims hold its key."""
        self.pair.configure(setting)

    @rule(kind_and_name=NAMES)
    def unset(self, kind_and_name: tuple[str, str]) -> None:
        """Forget a setting."""
        self.pair.unset(*kind_and_name)

    @rule(move=st.sampled_from(["trip", "reset", "reset"]))
    def turn(self, move: str) -> None:
        """Turn the breaker by hand."""
        self.pair.turn("b", move)

    @precondition(lambda self: self.claims)
    @rule(back=BACK, outcome=TELLING)
    def settle_telling(self, back: int, outcome: Outcome) -> None:
        """Settle one of the latest claims with an outcome that tells valves something."""
        held = latest(self.claims, back)
        self._settle(held.session_id, [Ending(held, outcome)])

    @rule(back=BACK, outcomes=st.lists(TELLING, min_size=1, max_size=4))
    def run_telling(self, back: int, outcomes: list[Outcome]) -> None:
        """Claim jobs and settle each with an outcome that tells valves something."""
        self.run(back, outcomes)

    @precondition(lambda self: self.claims)
    @rule(back=BACK, uses=st.sampled_from([(Use("k"),), (Use("l"),), (Use("k", {"t": 2.0}), Use("l"))]))
    def acquire(self, back: int, uses: tuple[Use, ...]) -> None:
        """Acquire something for one of the latest claims, which may long have ended."""
        held = latest(self.claims, back)
        request = (1 + len(self.acquired)).to_bytes(8, "big")
        if self.pair.acquire(held, request, uses):
            self.acquired[request] = (held, uses)

    @precondition(lambda self: self.acquired)
    @rule(back=BACK)
    def acquire_again(self, back: int) -> None:
        """Repeat a request whose answer was lost."""
        request, (held, uses) = latest(list(self.acquired.items()), back)
        if self.pair.acquire(held, request, uses):
            self.released.discard(request)

    @precondition(lambda self: self.acquired)
    @rule(back=BACK, spent=st.sampled_from([{}, {"t": 1.0}, {"t": 9.0}]), is_repeated=st.booleans())
    def release(self, back: int, spent: dict[str, float], *, is_repeated: bool) -> None:
        """Release what was acquired, perhaps after its claim has ended."""
        request, (held, _) = latest(list(self.acquired.items()), back)
        for _ in range(1 + is_repeated):
            self.pair.release(held, request, spent)
        self.released.add(request)

    @precondition(lambda self: self.jobs)
    @rule(back=BACK)
    def look_around(self, back: int) -> None:
        """Look at what stands between a job and its start."""
        self.pair.look_around(latest(self.jobs, back).id)

    @rule()
    def drain(self) -> None:
        """Take everything back and open every valve: then all that is ready goes."""
        for session_id in self.pair.beats():
            self.pair.retire(session_id, [])
        self.resume()
        for kind, name in (("limit", "k"), ("limit", "l"), ("limit", "queue:side")):
            self.pair.unset(kind, name)
        self.pair.turn("b", "reset")
        self.pair.advance(61.0)
        self.pair.sweep()
        for _ in range(3):
            self.join()
        for _ in range(MOST_ROUNDS):
            if not self._run_all():
                break
        self.i12_what_nothing_holds_back_is_handed_out()

    def _run_all(self) -> bool:
        """Let every open session claim all that it can and succeed; return whether there was something."""
        before = len(self.claims)
        for session_id in self.pair.beats():
            first = len(self.claims)
            asks = [Ask(SLOT_KINDS, 50), Ask((Kind.MESSAGE,), 50)]
            self._claim(session_id, self._demand(asks, QUEUES, None))
            self._settle(session_id, [Ending(held, Succeeded(b"")) for held in self.claims[first:]])
        return len(self.claims) > before
