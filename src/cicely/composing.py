"""What composing signatures needs beside the classes: references, options and how they are shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeVar, cast

import msgspec

from cicely.core.units import Duration
from cicely.core.values.refusal import shown
from cicely.errors import UsageError
from cicely.settings import JobSettings, after_of, job_options, rule_of
from cicely.workflow.nodes import NONE, Call, Chain, Chord, Group, Node, Ref, with_options

R_co = TypeVar("R_co", covariant=True)


class Awaited(Protocol[R_co]):
    """A handle whose value is an `R_co`."""

    def get(self, timeout: Duration | None = None, *, allow_blocking: bool = False) -> R_co:
        """Wait for the value and return it."""


class Composed(Protocol[R_co]):
    """A canvas whose result is an `R_co`, for type checkers: of a group, the list."""

    def delay(self, *args: Any, **kwargs: Any) -> Awaited[R_co]:
        """Enqueue it and return the handle."""


class NodeArgument:
    """What stands for a flow's node among arguments; `flows.FlowNode` is one."""

    __slots__ = ("graph", "name")

    def __init__(self, graph: str, name: str) -> None:
        self.graph = graph
        self.name = name


def reference(value: Any) -> Any:
    """Return a flow's node, or a list of some, as a reference; any other value as it is."""
    if isinstance(value, NodeArgument):
        return Ref(value.graph, (value.name,))
    if not isinstance(value, list | tuple) or not any(isinstance(one, NodeArgument) for one in value):
        return value
    if not all(isinstance(one, NodeArgument) for one in value):
        raise UsageError(
            "a list among the arguments has nodes of a flow beside other values: pass these apart"
        )
    return Ref(value[0].graph, tuple(one.name for one in value), is_list=True)


def referenced(kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return arguments by name with flows' nodes as references."""
    return {name: reference(value) for name, value in kwargs.items()} if kwargs else NONE


def with_settings(node: Node, given: Mapping[str, Any]) -> Node:
    """Return `node` with options as a person writes them, checked."""
    job_options(cast(JobSettings, given))
    options = {name: value for name, value in given.items() if name not in ("link", "link_error")}
    if "after" in options:
        options["after"] = after_of(options["after"])
    if "on" in options:
        options["on"] = str(rule_of(options["on"]))
    for callback in _listed(given.get("link", ())):
        node = linked(node, callback)
    for errback in _listed(given.get("link_error", ())):
        node = linked_error(node, errback)
    return with_options(node, options)


def _listed(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list | tuple) else (value,)


def linked(node: Node, callback: Any) -> Node:
    """Return `node` with a callback for its success."""
    if isinstance(node, Group):
        raise UsageError("a group has no link: write group(...) | task, which is given all its results")
    return msgspec.structs.replace(node, links=(*node.links, node_in(callback, "link")))


def linked_error(node: Node, errback: Any) -> Node:
    """Return `node` with a callback for its failure."""
    return msgspec.structs.replace(node, errbacks=(*node.errbacks, node_in(errback, "link_error")))


def node_in(value: Any, what: str) -> Node:
    """Return the node of a signature. Raises UsageError for anything else."""
    node = getattr(value, "node", None)
    if not isinstance(node, Node):
        raise UsageError(f"{what} takes signatures, as task.s(...) makes them, and not {shown(value)}")
    return node


def body_in(body: Any) -> Node:
    """Return the node of a chord's body. Raises UsageError for a group of nothing."""
    node = node_in(body, "the body of a chord")
    if isinstance(node, Group) and not node.members:
        raise UsageError("the body of a chord is a group of nothing: there would be nothing to wait for")
    return node


def shown_node(node: Node) -> str:
    """Return a node as it would be written, cut where it is long."""
    match node:
        case Call():
            words = [shown(arg) for arg in node.args]
            words += [f"{name}={shown(value)}" for name, value in node.kwargs.items()]
            return f"{node.task}({', '.join(words)})"
        case Chain(steps=steps):
            return _several([shown_node(step) for step in steps[:3]], len(steps), " | ")
        case Group(members=members):
            return f"group({_several([shown_node(one) for one in members[:3]], len(members), ', ')})"
        case Chord():
            return f"chord({shown_node(node.header)}, {shown_node(node.body)})"


def _several(shown_ones: list[str], count: int, between: str) -> str:
    more = [f"… {count - len(shown_ones):,} more"] if count > len(shown_ones) else []
    return between.join(shown_ones + more)
