"""A graph: nodes by name, each after any number of others. Checked for cycles before a job is made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

import msgspec

from cicely.core.edge import Rule
from cicely.errors import UsageError
from cicely.workflow.before import START, Before
from cicely.workflow.build import Builder, Jobs, ends_in_group
from cicely.workflow.nodes import Call, Node, Ref, calls_of
from cicely.workflow.outline import Many, Outline, end_label, ids_of


class GraphNode(msgspec.Struct, frozen=True, kw_only=True):
    """A canvas in a graph, and the names of those it comes after by the rule `on`."""

    name: str
    node: Node
    after: tuple[str, ...] = ()
    on: Rule = Rule.SUCCESS

    @property
    def before(self) -> tuple[str, ...]:
        """The names of all that it comes after, those among its arguments as well."""
        return tuple(dict.fromkeys((*self.after, *_references(self.node))))


def _references(node: Node) -> Iterator[str]:
    for call in calls_of(node):
        yield from references_of(call)


def references_of(call: Call) -> Iterator[str]:
    """Yield the names of the nodes among a call's arguments."""
    for value in (*call.args, *call.kwargs.values()):
        if isinstance(value, Ref):
            yield from value.keys


def in_order(nodes: Iterable[GraphNode]) -> list[GraphNode]:
    """Return the nodes so that each comes after all that it names, else as they were added.

    Raises UsageError for a name that is no node's, and for a cycle, which it names.
    """
    by_name = {node.name: node for node in nodes}
    ordered: dict[str, GraphNode] = {}
    for name in by_name:
        _place(name, by_name, ordered)
    return list(ordered.values())


def _place(name: str, by_name: Mapping[str, GraphNode], ordered: dict[str, GraphNode]) -> None:
    """Put a node into `ordered`, and before it all that it comes after."""
    path = [name]
    open_names = {name}
    while path:
        node = by_name[path[-1]]
        missing = next((before for before in node.before if before not in ordered), None)
        if missing is None:
            ordered[path[-1]] = node
            open_names.discard(path.pop())
        elif missing in open_names:
            cycle = [*path[path.index(missing) :], missing]
            raise UsageError(
                f"the nodes wait for each other in a cycle, so that none could begin: "
                f"{' → '.join(reversed(cycle))}"
            )
        else:
            _known(missing, by_name, node.name)
            path.append(missing)
            open_names.add(missing)


def _known(name: str, by_name: Mapping[str, GraphNode], of: str) -> None:
    if name not in by_name:
        matches = get_close_matches(name, by_name, n=1)
        nearest = f" (did you mean {matches[0]!r}?)" if matches else ""
        raise UsageError(f"the node {of!r} comes after {name!r}, and no node of the graph is that{nearest}")


def sinks_of(nodes: Iterable[GraphNode]) -> list[str]:
    """Return which of the nodes, in order, have the graph's results: nothing comes after their success.

    What only comes after a failure is none of them, nor what comes after the success of that.
    """
    listed = list(nodes)
    beside: set[str] = set()
    for node in listed:
        if node.on is Rule.FAILURE or (node.on is Rule.SUCCESS and not beside.isdisjoint(node.before)):
            beside.add(node.name)
    followed = {name for node in listed if node.name not in beside for name in node.before}
    sinks = [node.name for node in listed if node.name not in followed | beside]
    return sinks or [listed[-1].name]


def graph_jobs(builder: Builder, ordered: list[GraphNode]) -> Jobs:
    """Yield the jobs of a graph; return the outline of its results."""
    sinks = set(sinks_of(ordered))
    is_one = len(sinks) == 1 and not any(n.name in sinks and ends_in_group(n.node) for n in ordered)
    label = end_label(builder.workflow) if is_one else builder.workflow
    for node in ordered:
        group = label if node.name in sinks else ""
        before = _before(node, builder.outlines)
        builder.outlines[node.name] = yield from builder.part(node.node, before, group=group)
    results = [builder.outlines[node.name] for node in ordered if node.name in sinks]
    return results[0] if len(results) == 1 else Many(builder.workflow, tuple(results))


def _before(node: GraphNode, outlines: Mapping[str, Outline]) -> Before:
    if not node.after:
        return START
    leaves = ids_of([outlines[name] for name in node.after])
    shape: Any = 0
    return Before(leaves, shape, node.on, passes=node.on is Rule.FAILURE)
