"""What a person composes, as plain values: calls, chains, groups and chords."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from cicely.core.edge import MAX_WORKFLOW
from cicely.errors import UsageError

#: Canvases within canvases; deeper ones are made by a loop that went wrong.
MAX_DEPTH: Final = 64

NONE: Final[Mapping[str, Any]] = MappingProxyType({})


class Ref(msgspec.Struct, frozen=True):
    """An argument that is the result of another node of the same graph, or of several."""

    graph: str
    keys: tuple[str, ...]
    is_list: bool = False


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One job to be: a task's name, arguments and options. What comes before is put before `args`.

    An immutable one takes nothing from what comes before. `links` come after its success,
    `errbacks` after its failure.
    """

    task: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = NONE
    options: Mapping[str, Any] = NONE
    immutable: bool = False
    links: tuple[Node, ...] = ()
    errbacks: tuple[Node, ...] = ()


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """One node after the other, each given the result of the one before."""

    steps: tuple[Node, ...]
    options: Mapping[str, Any] = NONE
    links: tuple[Node, ...] = ()
    errbacks: tuple[Node, ...] = ()


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes beside each other; their results are a list, in their order."""

    members: tuple[Node, ...]
    options: Mapping[str, Any] = NONE
    links: tuple[Node, ...] = ()
    errbacks: tuple[Node, ...] = ()


class Chord(msgspec.Struct, frozen=True, kw_only=True):
    """A group, and a body that comes after all of it and is given the list of its results.

    `cancels_siblings`: when one member fails, the others are cancelled as well.
    """

    header: Group
    body: Node
    cancels_siblings: bool = False
    options: Mapping[str, Any] = NONE
    links: tuple[Node, ...] = ()
    errbacks: tuple[Node, ...] = ()


Node = Call | Chain | Group | Chord


def joined(left: Node, right: Node) -> Chain:
    """Return the chain of both: `left | right`. Plain chains within are taken apart."""
    return chained((left, right))


def chained(nodes: tuple[Node, ...]) -> Chain:
    """Return the chain of all. Raises UsageError for none: there would be nothing to wait for."""
    steps = tuple(step for node in nodes for step in _steps_of(node))
    if not steps:
        raise UsageError("a chain of nothing has no result: give chain() at least one signature")
    return Chain(steps=steps)


def _steps_of(node: Node) -> tuple[Node, ...]:
    is_plain = isinstance(node, Chain) and not (node.options or node.links or node.errbacks)
    return node.steps if isinstance(node, Chain) and is_plain else (node,)


def with_arguments(node: Node, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Node:
    """Return `node` with `args` put before its own and `kwargs` over them.

    Of a chain, its first takes them; of a group or chord, each member. What is immutable takes none.
    """
    if not args and not kwargs:
        return node
    match node:
        case Call():
            if node.immutable:
                return node
            return msgspec.structs.replace(node, args=args + node.args, kwargs={**node.kwargs, **kwargs})
        case Chain(steps=(first, *rest)):
            return msgspec.structs.replace(node, steps=(with_arguments(first, args, kwargs), *rest))
        case Group(members=members):
            given = tuple(with_arguments(member, args, kwargs) for member in members)
            return msgspec.structs.replace(node, members=given)
        case Chord(header=header):
            return msgspec.structs.replace(node, header=with_arguments(header, args, kwargs))
    return node


def with_options(node: Node, options: Mapping[str, Any]) -> Node:
    """Return `node` with `options` over its own."""
    if not options:
        return node
    return msgspec.structs.replace(node, options={**node.options, **options})


def children_of(node: Node) -> Iterator[Node]:
    """Yield the nodes within `node`, not those within them."""
    match node:
        case Chain(steps=steps):
            yield from steps
        case Group(members=members):
            yield from members
        case Chord(header=header, body=body):
            yield header
            yield body
    yield from node.links
    yield from node.errbacks


def calls_of(node: Node) -> Iterator[Call]:
    """Yield every call within `node`."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Call):
            yield one
        waiting += children_of(one)


def check_size(*nodes: Node) -> int:
    """Return how many jobs `nodes` become. Raises UsageError for too many, or too deep a nesting."""
    count = sum(_sizes_of(node, 1)[0] for node in nodes)
    if count > MAX_WORKFLOW:
        raise UsageError(
            f"a workflow of {count:,} jobs: at most {MAX_WORKFLOW:,} are one; "
            "give each job more to do (task.chunks), or make several workflows"
        )
    return count


def check_ends(node: Node) -> int:
    """Return how many jobs have the result of a node. Raises UsageError for too deep a nesting."""
    return _sizes_of(node, 1)[1]


def _sizes_of(node: Node, depth: int) -> tuple[int, int]:
    """Return the jobs that a node becomes, and those of them that it ends with."""
    if depth > MAX_DEPTH:
        raise UsageError(f"a workflow nested deeper than {MAX_DEPTH} levels (does it contain itself?)")
    within: list[tuple[int, int]] = []
    ends = 1
    match node:
        case Chain(steps=steps):
            within = [_sizes_of(step, depth + 1) for step in steps]
            ends = within[-1][1]
        case Group(members=members):
            within = [_sizes_of(member, depth + 1) for member in members]
            ends = sum(one[1] for one in within)
        case Chord(header=header, body=body):
            within = [_sizes_of(header, depth + 1), _sizes_of(body, depth + 1)]
            ends = within[-1][1]
        case Call():
            within = [(1, 1)]
    beside = sum(_sizes_of(link, depth + 1)[0] for link in node.links)
    beside += ends * sum(_sizes_of(errback, depth + 1)[0] for errback in node.errbacks)
    return sum(one[0] for one in within) + beside, ends
