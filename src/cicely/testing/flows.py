"""Random flows on an engine, against what the rules of edges say: success, failure and done.

Needs `hypothesis`. `check_random_flows(MyHarness)` runs it, in the world of `testing.workflows`.
"""

from __future__ import annotations

import os
import random
from typing import Final

import msgspec
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cicely.core.edge import Fate, Rule, holds, inherited
from cicely.core.states import State
from cicely.flows import FlowNode
from cicely.testing.conformance.harness import Harness
from cicely.testing.interpreter import ATTEMPTS
from cicely.testing.workflows import World

EXAMPLES: Final = 80
_NODES: Final = 8


class Drawn(msgspec.Struct, frozen=True):
    """A node: what it comes after by a rule, the nodes that are its arguments, and how often it fails."""

    fails: int
    after: tuple[int, ...]
    args: tuple[int, ...]
    on: Rule


class Outcome(msgspec.Struct, frozen=True):
    """How a node ends; `value` counts where it succeeded."""

    state: State
    fate: Fate
    value: object = None


def check_random_flows(harness: type[Harness], *, examples: int = EXAMPLES) -> None:
    """Run many random flows on the engine behind `harness`."""
    asked = os.environ.get("CICELY_EXAMPLES")

    @settings(
        max_examples=int(asked or examples),
        derandomize=asked is None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(nodes=graphs(), seed=st.integers(0, 1 << 32))
    def check(nodes: list[Drawn], seed: int) -> None:
        outcomes = interpreted(nodes)
        home = harness()
        try:
            _keep(World(home, random.Random(seed)), nodes, outcomes)  # noqa: S311  (chance, guarding nothing)
        finally:
            home.destroy()

    check()


@st.composite
def graphs(draw: st.DrawFn) -> list[Drawn]:
    """Return graphs whose ends do not depend on what of several things happens first."""
    nodes: list[Drawn] = []
    for number in range(draw(st.integers(1, _NODES))):
        earlier = st.lists(st.sampled_from(range(number)), max_size=3, unique=True) if number else st.just([])
        args = draw(earlier)
        after = [one for one in draw(earlier) if one not in args]
        fails = draw(st.sampled_from([0, 0, 0, 1, ATTEMPTS]))
        rule = draw(st.sampled_from(list(Rule)))
        node = Drawn(fails, tuple(after), tuple(args), rule)
        nodes.append(node if len(_broken(node, interpreted(nodes))) <= 1 else Drawn(fails, (), (), rule))
    return nodes


def interpreted(nodes: list[Drawn]) -> list[Outcome]:
    """Return how each node ends."""
    outcomes: list[Outcome] = []
    for number, node in enumerate(nodes):
        broken = _broken(node, outcomes)
        if broken:
            outcomes.append(Outcome(State.CANCELLED, broken.pop()))
        elif node.fails >= ATTEMPTS:
            outcomes.append(Outcome(State.FAILED, Fate.FAILURE))
        else:
            value = [f"work{number}", *(outcomes[one].value for one in node.args)]
            outcomes.append(Outcome(State.SUCCEEDED, Fate.SUCCESS, value))
    return outcomes


def _broken(node: Drawn, outcomes: list[Outcome]) -> set[Fate]:
    """Return the fates that the broken edges into a node may give it: which one, is a matter of time."""
    edges = [(Rule.SUCCESS, outcomes[one].fate) for one in node.args]
    edges += [(node.on, outcomes[one].fate) for one in node.after]
    return {inherited(rule, fate) for rule, fate in edges if not holds(rule, fate)}


def _keep(world: World, nodes: list[Drawn], outcomes: list[Outcome]) -> None:
    flow = world.app.flow()
    added: list[FlowNode] = []
    for number, node in enumerate(nodes):
        args = [added[one] for one in node.args]
        signature = world.work.si(*args, name=f"work{number}", fails=node.fails)
        added.append(flow.add(signature, after=[added[one] for one in node.after], on=str(node.on)))
    run = flow.delay()
    world.run()
    for one, expected in zip(added, outcomes, strict=True):
        assert run[one].state is expected.state
        if expected.state is State.SUCCEEDED:
            assert run[one].get(timeout=0) == expected.value
    assert run.progress.done == len(nodes)
