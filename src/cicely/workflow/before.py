"""What a call comes after, and what it is given of that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from cicely.core.edge import Edge, Join, Role, Rule
from cicely.core.values.inputs import Inputs, Part
from cicely.errors import UsageError
from cicely.workflow.nodes import Call, Ref
from cicely.workflow.outline import Many, Outline, end_of, ids_of, opened, shape_of

#: What is put before the arguments of a call that comes after a failure.
FAILURE: Final = (Inputs(0, Part.JOB_ID), Inputs(0, Part.ERROR), Inputs(0, Part.TRACEBACK))


class Before(msgspec.Struct, frozen=True):
    """Jobs that a call comes after, by one rule.

    `shape` is that of their results, which are passed on where it `passes` them, `join` says when a
    failure among them decides. `also` are jobs that only have to succeed, and `cancels_siblings` says
    that the first failure ends the others.
    """

    leaves: tuple[str, ...] = ()
    shape: Any = ()
    rule: Rule = Rule.SUCCESS
    passes: bool = False
    join: Join = Join.FIRST
    also: tuple[str, ...] = ()
    cancels_siblings: bool = False

    @property
    def all(self) -> tuple[str, ...]:
        """The ids of all these jobs."""
        return self.leaves + self.also


START: Final = Before()


def behind(outline: Outline, earlier: Before, *, cancels_siblings: bool = False) -> Before:
    """Return what a step comes after that is given the result of `outline`."""
    leaves = ids_of([outline])
    shape = shape_of(outline, {leaf: index for index, leaf in enumerate(leaves)})
    # A group of nothing passes on an empty list, once what came before it has succeeded.
    also = () if leaves else earlier.all
    if leaves and isinstance(end_of(outline), Many):
        shape = opened(shape, len(leaves))
    return Before(leaves, shape, passes=True, also=also, cancels_siblings=cancels_siblings)


def behind_failure(job_id: str) -> Before:
    """Return what an errback of one job comes after."""
    return Before((job_id,), 0, Rule.FAILURE, passes=True)


def _empty(shape: Any) -> list[Any]:
    return [_empty(item) for item in shape]


class Intake:
    """What goes into one job: its arguments, and the edges that bring or delay it.

    Only the first of `befores` passes something on; the others are an order and no more. References
    among the call's arguments are to nodes in `outlines`.
    """

    def __init__(
        self,
        call: Call,
        befores: tuple[Before, ...],
        outlines: Mapping[str, Outline],
        *,
        failure: tuple[Inputs, ...],
    ) -> None:
        self._befores = befores
        self._outlines = outlines
        lead = befores[0] if befores else START
        self._takes = lead.passes and not call.immutable
        self._inputs = {leaf: index for index, leaf in enumerate(lead.leaves)} if self._takes else {}
        self._failing = frozenset(lead.leaves) if self._takes and lead.rule is Rule.FAILURE else frozenset()
        given = self._given(lead, failure) if self._takes else ()
        self.call = self._complete(call, given) if given or outlines else call

    @property
    def parents(self) -> tuple[str, ...]:
        """The ids of all the jobs that come before."""
        ids = (*self._inputs, *(leaf for before in self._befores for leaf in before.all))
        return tuple(dict.fromkeys(ids))

    def edges(self, job_id: str) -> list[Edge]:
        """Return the edges into the job, those that bring inputs first and in their order."""
        if not self._befores and not self._inputs:
            return []
        lead = self._befores[0] if self._takes else START
        edges = [
            Edge(leaf, job_id, lead.rule, Role.INPUT, lead.join, lead.cancels_siblings)
            for leaf in lead.leaves
        ]
        edges += [Edge(leaf, job_id) for leaf in list(self._inputs)[len(edges) :]]
        known = {edge.parent: edge.rule for edge in edges}
        for before in self._befores:
            leaves = () if before is lead else before.leaves
            ordered = [(leaf, before.rule) for leaf in leaves]
            ordered += [(leaf, Rule.SUCCESS) for leaf in before.also]
            for leaf, rule in ordered:
                if known.get(leaf, rule) is not rule:
                    raise _contradiction(known[leaf], rule)
                if leaf not in known:
                    known[leaf] = rule
                    edges.append(Edge(leaf, job_id, rule, Role.ORDER, Join.FIRST, before.cancels_siblings))
        return edges

    def _given(self, lead: Before, failure: tuple[Inputs, ...]) -> tuple[Any, ...]:
        if lead.rule is Rule.FAILURE:
            return failure
        return (Inputs(lead.shape) if lead.leaves else _empty(lead.shape),)

    def _complete(self, call: Call, given: tuple[Any, ...]) -> Call:
        args = given + tuple(map(self._resolved, call.args))
        kwargs = {name: self._resolved(value) for name, value in call.kwargs.items()}
        return msgspec.structs.replace(call, args=args, kwargs=kwargs)

    def _resolved(self, argument: Any) -> Any:
        if not isinstance(argument, Ref):
            return argument
        outlines = [self._outline(key) for key in argument.keys]
        for leaf in ids_of(outlines):
            if leaf in self._failing:
                raise _contradiction(Rule.FAILURE, Rule.SUCCESS)
            self._inputs.setdefault(leaf, len(self._inputs))
        outline: Outline = Many("", tuple(outlines)) if argument.is_list else outlines[0]
        shape = shape_of(outline, self._inputs)
        return Inputs(shape) if ids_of([outline]) else _empty(shape)

    def _outline(self, key: str) -> Outline:
        outline = self._outlines.get(key)
        if outline is None:
            raise UsageError(
                f"an argument is the node {key!r}, which is not before it in its graph: "
                "add both to one app.flow()"
            )
        return outline


def _contradiction(one: Rule, other: Rule) -> UsageError:
    return UsageError(
        f"a job is to come after the {one} of another, and after its {other} as well: an argument takes "
        "a node's success; leave one of the two out"
    )
