"""A canvas, interpreted: the states and results that its jobs must come to, on any engine.

Written from Celery's documentation and ours, and sharing nothing with `cicely.workflow.build`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from cicely.core.states import State
from cicely.workflow.nodes import Call, Chain, Chord, Group, Node

#: A call that fails so often is given up.
ATTEMPTS: Final = 3


class End(msgspec.Struct, frozen=True):
    """How one job ends. `blames` are the jobs of which one is named as the cause, by their names."""

    state: State
    value: Any = None
    blames: frozenset[str] = frozenset()

    @property
    def is_well(self) -> bool:
        """Whether it has a value."""
        return self.state is State.SUCCEEDED


Tree = End | list["Tree"]


class Given(msgspec.Struct, frozen=True):
    """What a node comes after: a tree whose values it is given, and jobs that only have to succeed."""

    tree: Tree | None = None
    others: tuple[End, ...] = ()

    @property
    def all(self) -> tuple[End, ...]:
        """All of these jobs."""
        return (*(flat(self.tree) if self.tree is not None else ()), *self.others)


START: Final = Given()


class Interpreter:
    """Interprets one canvas whose calls have a `name`, and fail as often as their `fails` says.

    `ends` counts how jobs of each name end. A `mended` world has no failures.
    """

    def __init__(self, *, is_mended: bool = False) -> None:
        self.ends: Counter[tuple[str, State, str]] = Counter()
        self._is_mended = is_mended

    def whole(self, node: Node) -> Tree:
        """Return how the jobs end that have the canvas's result."""
        return self._node(node, START)

    def _node(self, node: Node, given: Given) -> Tree:
        match node:
            case Call():
                tree: Tree = self._call(node, given)
            case Chain():
                tree = self._chain(node, given)
            case Group():
                tree = [self._node(member, given) for member in node.members]
            case Chord():
                header = self._node(node.header, given)
                tree = self._node(node.body, _behind(header, given))
        for link in node.links:
            self._node(link, _behind(tree, given))
        for errback in node.errbacks:
            for end in flat(tree):
                self._errback(errback, end)
        return tree

    def _chain(self, chain: Chain, given: Given) -> Tree:
        *earlier, last = chain.steps
        for step in earlier:
            is_one = isinstance(step, Group) and len(step.members) == 1 and not step.errbacks
            tree = self._node(step.members[0] if is_one and isinstance(step, Group) else step, given)
            given = _behind(tree, given)
        return self._node(last, given)

    def _call(self, call: Call, given: Given) -> End:
        name = call.kwargs["name"]
        unwell = [end for end in given.all if not end.is_well]
        if unwell:
            blames = frozenset[str]().union(*(end.blames for end in unwell))
            return self._ended(name, End(State.CANCELLED, blames=blames))
        if call.kwargs["fails"] >= ATTEMPTS and not self._is_mended:
            return self._ended(name, End(State.FAILED, blames=frozenset([name])))
        takes = given.tree is not None and not call.immutable
        value = [name, plain(given.tree)] if takes and given.tree is not None else [name]
        return self._ended(name, End(State.SUCCEEDED, value))

    def _errback(self, errback: Node, end: End) -> None:
        name = errback.kwargs["name"] if isinstance(errback, Call) else ""
        self._ended(name, End(State.CANCELLED) if end.is_well else End(State.SUCCEEDED, [name]))

    def _ended(self, name: str, end: End) -> End:
        self.ends[name, end.state, repr(end.value)] += 1
        return end


def _behind(tree: Tree, given: Given) -> Given:
    return Given(tree, () if any(True for _ in flat(tree)) else given.all)


def flat(tree: Tree) -> Iterator[End]:
    """Yield the ends of a tree, in order."""
    if isinstance(tree, End):
        yield tree
        return
    for one in tree:
        yield from flat(one)


def plain(tree: Tree) -> Any:
    """Return the values of a tree, as lists within lists."""
    return tree.value if isinstance(tree, End) else [plain(one) for one in tree]
