"""From nodes to jobs and the edges between them, one after the other: whatever comes before is first."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from hashlib import blake2b
from typing import Any, Final, Protocol

import msgspec

from cicely.core.edge import Edge, Join, Rule
from cicely.core.job import NewJob
from cicely.core.values.inputs import Inputs
from cicely.errors import UsageError
from cicely.workflow.before import FAILURE, START, Before, Intake, behind, behind_failure
from cicely.workflow.nodes import NONE, Call, Chain, Chord, Group, Node
from cicely.workflow.outline import (
    Many,
    Outline,
    closed_label,
    end_label,
    gathered_label,
    header_label,
    leaves_of,
    trail_of,
)

#: Options of a composite that its first jobs take, and those that its last takes; all others, all do.
FIRST_OPTIONS: Final = frozenset({"countdown", "eta", "after", "on"})
LAST_OPTIONS: Final = frozenset({"id"})

_ID_BYTES: Final = 16
_PERSON: Final = b"cicely workflow"


class Maker(Protocol):
    """Makes the record of one call; knows tasks and queues, and how arguments are encoded."""

    def takes(self, call: Call, count: int) -> bool:
        """Return whether the task takes `count` arguments before the call's own."""

    def chosen_id(self, call: Call, options: Mapping[str, Any], parents: tuple[str, ...]) -> str:
        """Return the id that a person chose for the job, by name or as `stable`; "" for none."""

    def identity(self, call: Call | None, options: Mapping[str, Any]) -> str:
        """Return what tells a call with a chosen id from others with one; "" where none is chosen."""

    def make(self, call: Call, options: Mapping[str, Any], *, job_id: str) -> NewJob:
        """Return the job of a call. Raises TypeError, NotStorable and ConfigError."""


class Planned(msgspec.Struct, frozen=True, gc=False):
    """A job and the edges into it. Those of a `loose` one may find that what is before it has ended."""

    job: NewJob
    edges: list[Edge]
    is_loose: bool = False


class Place(msgspec.Struct, frozen=True):
    """What surrounds a node: options for its first, for its last and for all its jobs.

    `group` is the label of those that have its result. `id` is for the job it begins with.
    """

    first: Mapping[str, Any] = NONE
    last: Mapping[str, Any] = NONE
    every: Mapping[str, Any] = NONE
    group: str = ""
    id: str = ""

    def around(self, options: Mapping[str, Any]) -> Place:
        """Return the place of what is within a composite that has these options."""
        if not options:
            return self
        first = {key: value for key, value in options.items() if key in FIRST_OPTIONS}
        last = {key: value for key, value in options.items() if key in LAST_OPTIONS}
        every = {key: options[key] for key in options.keys() - first.keys() - last.keys()}
        return msgspec.structs.replace(
            self, first={**self.first, **first}, last={**self.last, **last}, every={**self.every, **every}
        )

    def options_of(self, call: Call) -> Mapping[str, Any]:
        """Return the options of a call here; its own come first."""
        if not (self.first or self.last or self.every):
            return call.options
        return {**self.every, **self.first, **self.last, **call.options}


_ALONE: Final = Place()

Jobs = Generator[Planned, None, Outline]


def derived_id(*parts: str) -> str:
    """Return 32 hex characters that follow from `parts`."""
    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=_ID_BYTES, person=_PERSON).hexdigest()


class Builder:
    """Makes the jobs of one workflow. `outlines` are those of the nodes that are built, by their keys."""

    def __init__(self, maker: Maker, fresh_id: Callable[[], str], *, workflow: str = "") -> None:
        self._maker = maker
        self._fresh_id = fresh_id
        self.workflow = workflow
        self.outlines: dict[str, Outline] = {}
        self._chosen: dict[str, bool] = {}
        self._loose: set[str] = set()

    def name(self, node: Node) -> None:
        """Choose the workflow's id: where its first and its last job have chosen ids, one that follows.

        So a workflow that was written in part is completed when it is built and written again.
        """
        chosen = [self._maker.identity(*_outermost(node, index)) for index in (0, -1)]
        self.workflow = derived_id("of", *chosen) if all(chosen) else self._fresh_id()

    def whole(self, node: Node) -> Jobs:
        """Yield the jobs of a workflow whose result is that of `node`; return their outline."""
        label = self.workflow if ends_in_group(node) else end_label(self.workflow)
        return self.part(node, START, group=label)

    def part(self, node: Node, before: Before, *, group: str = "") -> Jobs:
        """Yield the jobs of a node that comes after others; return their outline."""
        return self._node(node, before, Place(group=group))

    def gathered(self, node: Node, gatherer: Call) -> Jobs:
        """Yield the jobs of a group, and one that is given its results when all of it has ended."""
        gatherer_id = self._fresh_id()
        outline = yield from self.part(node, START, group=gathered_label(gatherer_id))
        before = msgspec.structs.replace(behind(outline, START), join=Join.ALL)
        place = Place(group=end_label(self.workflow), id=gatherer_id)
        return trail_of(outline, (yield from self._node(gatherer, before, place)))

    # --- each kind of node --------------------------------------------------------------------
    def _node(self, node: Node, before: Before, place: Place) -> Jobs:
        outline: Outline
        match node:
            case Call():
                outline = yield from self._call(node, before, place)
            case Chain():
                outline = yield from self._chain(node, before, place.around(node.options))
            case Group():
                outline = yield from self._group(node, before, place.around(node.options))
            case Chord():
                outline = yield from self._chord(node, before, place.around(node.options))
        if node.links or node.errbacks:
            yield from self._beside(node, outline, before)
        return outline

    def _beside(self, node: Node, outline: Outline, before: Before) -> Iterator[Planned]:
        if node.links and isinstance(node, Group):
            raise UsageError("a group has no link=: write group(...) | task, which is given all its results")
        for link in node.links:
            yield from self._node(link, behind(outline, before), _ALONE)
        for errback in node.errbacks:
            for leaf in leaves_of(outline):
                yield from self._node(errback, behind_failure(leaf), _ALONE)

    def _chain(self, chain: Chain, before: Before, place: Place) -> Jobs:
        steps = chain.steps
        outlines: list[Outline] = []
        begins_with = place.id
        for index, written in enumerate(steps):
            is_last = index == len(steps) - 1
            step = written if is_last else _unrolled(written)
            label, next_id = (
                ("", "") if is_last else self._label(step, steps[index + 1], place, cancels=False)
            )
            here = Place(
                first=place.first if index == 0 else NONE,
                last=place.last if is_last else NONE,
                every=place.every,
                group=place.group if is_last else label,
                id=begins_with,
            )
            outline = yield from self._node(step, before, here)
            before = behind(outline, before)
            outlines.append(outline)
            begins_with = next_id
        return trail_of(*outlines)

    def _chord(self, chord: Chord, before: Before, place: Place) -> Jobs:
        cancels = chord.cancels_siblings
        label, body_id = self._label(chord.header, chord.body, place, cancels=cancels)
        above = Place(first=place.first, every=place.every, group=label)
        header = yield from self._node(chord.header, before, above)
        before = behind(header, before, cancels_siblings=cancels)
        below = Place(last=place.last, every=place.every, group=place.group, id=body_id)
        body = yield from self._node(chord.body, before, below)
        return trail_of(header, body)

    def _group(self, group: Group, before: Before, place: Place) -> Jobs:
        if place.last:
            raise UsageError("id= names one job, and a group is several: give ids to its members")
        label = place.group or self._fresh_id()
        inner = msgspec.structs.replace(place, group=label, id="")
        members: list[Outline] = []
        for member in group.members:
            outline = yield from self._node(member, before, inner)
            members.append(outline)
        return Many(label, tuple(members))

    def _label(self, header: Node, body: Node, place: Place, *, cancels: bool) -> tuple[str, str]:
        """Return the label of a header's jobs, and the id that its body is to have."""
        if not ends_in_group(header):
            return "", ""
        call, options = _first_call(body, place.every)
        chosen = options.get("id", "")
        if call is None or not isinstance(chosen, str):
            return closed_label(self._fresh_id()), ""
        body_id = chosen or self._fresh_id()
        return header_label(body_id, cancels_siblings=cancels), body_id

    # --- one job ------------------------------------------------------------------------------
    def _call(self, call: Call, before: Before, place: Place) -> Generator[Planned, None, str]:
        options = place.options_of(call)
        outer = _outer(options)
        if outer is not START:
            options = {key: value for key, value in options.items() if key not in ("after", "on")}
        befores = tuple(one for one in (before, outer) if one is not START)
        intake = Intake(call, befores, self.outlines, failure=self._failure(call, befores))
        job_id = self._id_of(intake, options, place.id)
        edges = intake.edges(job_id)
        if self._is_repeated(job_id, options, has_edges=bool(edges)):
            return job_id
        new = self._maker.make(intake.call, options, job_id=job_id)
        new = msgspec.structs.replace(new, workflow=self.workflow, group=place.group)
        is_loose = outer is not START or any(edge.parent in self._loose for edge in edges)
        if "id" in options or new.unique or is_loose:
            self._loose.add(job_id)
        yield Planned(new, edges, is_loose)
        return job_id

    def _failure(self, call: Call, befores: tuple[Before, ...]) -> tuple[Inputs, ...]:
        """Return what an errback is told. Celery's rule as well: one argument is given the job's id."""
        is_errback = bool(befores) and befores[0].rule is Rule.FAILURE
        return FAILURE[:1] if is_errback and not self._maker.takes(call, len(FAILURE)) else FAILURE

    def _id_of(self, intake: Intake, options: Mapping[str, Any], suggested: str) -> str:
        if "id" not in options:
            return suggested or self._fresh_id()
        return self._maker.chosen_id(intake.call, options, intake.parents)

    def _is_repeated(self, job_id: str, options: Mapping[str, Any], *, has_edges: bool) -> bool:
        """Return whether this job is in the workflow already: the same id stands for the same job."""
        if "id" not in options:
            return False
        had_edges = self._chosen.get(job_id)
        if had_edges is None:
            self._chosen[job_id] = has_edges
            return False
        if had_edges or has_edges:
            raise UsageError(
                f"two jobs of one workflow have the id {job_id}, and one of them comes after others: "
                "give each an id of its own"
            )
        return True


def ends_in_group(node: Node) -> bool:
    """Return whether a node's result is a group's list."""
    match node:
        case Group():
            return True
        case Chain(steps=steps):
            return ends_in_group(steps[-1])
        case Chord(body=body):
            return ends_in_group(body)
    return False


def _unrolled(node: Node) -> Node:
    """Return the member of a group of one that something comes after: Celery's rule."""
    if not isinstance(node, Group) or len(node.members) != 1 or node.errbacks or node.options:
        return node
    return node.members[0]


def _first_call(node: Node, every: Mapping[str, Any] = NONE) -> tuple[Call | None, Mapping[str, Any]]:
    """Return the one call that a node begins with, and its options; None where it begins with several."""
    options = {**every, **node.options}
    match node:
        case Call():
            return node, options
        case Chain(steps=(only,)):
            return _first_call(only, options)
        case Chain(steps=(first, *_)):
            return _first_call(first, {key: options[key] for key in options.keys() - LAST_OPTIONS})
    return None, NONE


def _outermost(node: Node, index: int) -> tuple[Call | None, Mapping[str, Any]]:
    """Return the first call (index 0) or the last (-1) within a node, and its options."""
    options: dict[str, Any] = {}
    while not isinstance(node, Call):
        # An option of the outside counts less than one of the inside, and id= is for the last alone.
        options |= {name: value for name, value in node.options.items() if index or name not in LAST_OPTIONS}
        within = (node.header, node.body) if isinstance(node, Chord) else _parts_of(node)
        if not within:
            return None, NONE
        node = within[index]
    return node, {**options, **node.options}


def _parts_of(node: Chain | Group) -> tuple[Node, ...]:
    return node.steps if isinstance(node, Chain) else node.members


def _outer(options: Mapping[str, Any]) -> Before:
    """Return the jobs that `after=` names, which are there already."""
    after: tuple[str, ...] = tuple(options.get("after", ()))
    if not after:
        return START
    rule = Rule(options.get("on", Rule.SUCCESS))
    return Before(tuple(dict.fromkeys(after)), (), rule, passes=rule is Rule.FAILURE)
