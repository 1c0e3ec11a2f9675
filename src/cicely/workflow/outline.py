"""The ids of a workflow's jobs, in the shape of their results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from cicely.core.edge import Edge, Join
from cicely.core.values.inputs import OPEN

#: How the label of a chord's header begins: the id of its body follows.
_HEADER: Final = "chord:"
_HEADER_OF_FEW: Final = "chord!:"
_GATHERED: Final = "gathered:"
_CLOSED: Final = "closed:"
_END: Final = "end:"

#: How what comes after a group stands behind each of its jobs, by the beginning of their label.
_BEHIND: Final = {
    _HEADER: Edge("", ""),
    _HEADER_OF_FEW: Edge("", "", cancels_siblings=True),
    _GATHERED: Edge("", "", join=Join.ALL),
}


class Many(msgspec.Struct, frozen=True):
    """The members of a group, and the label that their jobs share."""

    id: str
    members: tuple[Outline, ...]


class Trail(msgspec.Struct, frozen=True):
    """The steps of a chain, or header and body of a chord: the last has the result."""

    steps: tuple[str | Many, ...]


Outline = str | Many | Trail


def end_of(outline: Outline) -> str | Many:
    """Return what of an outline has the result."""
    return outline.steps[-1] if isinstance(outline, Trail) else outline


def trail_of(*outlines: Outline) -> Outline:
    """Return the outline of one after the other."""
    steps: list[str | Many] = []
    for outline in outlines:
        steps += outline.steps if isinstance(outline, Trail) else (outline,)
    return steps[0] if len(steps) == 1 else Trail(tuple(steps))


def leaves_of(outline: Outline) -> Iterator[str]:
    """Yield the ids of the jobs that have the results, in order."""
    end = end_of(outline)
    if isinstance(end, str):
        yield end
        return
    for member in end.members:
        yield from leaves_of(member)


def all_of(outline: Outline) -> Iterator[str]:
    """Yield the ids of all jobs of an outline."""
    match outline:
        case str():
            yield outline
        case Many(members=members):
            for member in members:
                yield from all_of(member)
        case Trail(steps=steps):
            for step in steps:
                yield from all_of(step)


def shape_of(outline: Outline, index: Mapping[str, int]) -> Any:
    """Return the shape of an outline's results, where `index` numbers the jobs that have them."""
    end = end_of(outline)
    if isinstance(end, str):
        return index[end]
    shape: list[Any] = []
    for member in end.members:
        _append(shape, shape_of(member, index))
    return tuple(shape)


def _append(shape: list[Any], item: Any) -> None:
    if not isinstance(item, int):
        shape.append(item)
        return
    last = shape[-1] if shape else None
    if isinstance(last, range) and last.stop == item:
        shape[-1] = range(last.start, item + 1)
    else:
        shape.append(range(item, item + 1))


def opened(shape: tuple[Any, ...], count: int) -> tuple[Any, ...]:
    """Return the shape of a list to which whatever comes after its `count` inputs belongs as well."""
    *rest, last = shape
    if isinstance(last, range) and last.stop == count:
        return (*rest, range(last.start, OPEN))
    return (*shape, range(count, OPEN))


def renamed(outline: Outline, names: Mapping[str, str]) -> Outline:
    """Return the outline with other jobs in place of those that `names` names."""
    if not names:
        return outline
    match outline:
        case str():
            return names.get(outline, outline)
        case Many(id=label, members=members):
            return Many(label, tuple(renamed(member, names) for member in members))
        case Trail(steps=steps):
            # A step is no trail, and neither is what becomes of it.
            return Trail(tuple(renamed(step, names) for step in steps))  # type: ignore[misc]


def shaped(outline: str | Many, value_of: Callable[[str], Any]) -> Any:
    """Return the values of an outline's jobs as lists within lists."""
    if isinstance(outline, str):
        return value_of(outline)
    return [shaped(end_of(member), value_of) for member in outline.members]


# --- labels -------------------------------------------------------------------------------------


def header_label(body_id: str, *, cancels_siblings: bool) -> str:
    """Return the label of the jobs before a chord's body, from which each of them can read its id."""
    return f"{_HEADER_OF_FEW if cancels_siblings else _HEADER}{body_id}"


def gathered_label(gatherer_id: str) -> str:
    """Return the label of jobs whose results one job gathers when all have ended."""
    return f"{_GATHERED}{gatherer_id}"


def closed_label(fresh_id: str) -> str:
    """Return the label of a header whose body has no one beginning: nothing can be added to it."""
    return f"{_CLOSED}{fresh_id}"


def is_closed(label: str) -> bool:
    """Return whether `closed_label` made a label."""
    return label.startswith(_CLOSED)


def edge_behind(job_id: str, label: str) -> Edge | None:
    """Return the edge from a job of a group into what comes after it; None for the label of a plain group."""
    for prefix, edge in _BEHIND.items():
        if label.startswith(prefix):
            return msgspec.structs.replace(edge, parent=job_id, child=label.removeprefix(prefix))
    return None


def end_label(workflow: str) -> str:
    """Return the label of the job that has a workflow's result, where that is one job."""
    return f"{_END}{workflow}"


def is_end(label: str) -> bool:
    """Return whether `end_label` made a label."""
    return label.startswith(_END)


def ids_of(outlines: Sequence[Outline]) -> tuple[str, ...]:
    """Return the ids of the jobs that have results, each once."""
    return tuple(dict.fromkeys(leaf for outline in outlines for leaf in leaves_of(outline)))
