"""Edges: "this job comes after that one". All that an engine knows of workflows.

A job with undecided edges is `waiting`. When a job ends, each edge out of it is decided once: its
rule holds, or it is broken. The last edge that holds releases the job behind it; a broken one
cancels it, at once or after the others, as the edge says.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from cicely.core.states import State

#: A claim carries the ends of up to so many parents; beyond, they are read in pages.
INLINE_PARENTS: Final = 16

#: A workflow of more jobs is refused when it is built.
MAX_WORKFLOW: Final = 1_000_000


class Rule(StrEnum):
    """What a dependant wants of its parent's end: `done` is any end."""

    SUCCESS = "success"
    FAILURE = "failure"
    DONE = "done"


class Join(StrEnum):
    """When a broken edge cancels the job behind it: at once, or when all its parents have ended."""

    FIRST = "first"
    ALL = "all"


class Role(StrEnum):
    """What the parent's result is to the job behind it: an argument, a called job's, or nothing."""

    INPUT = "input"
    CALL = "call"
    ORDER = "order"


class Fate(StrEnum):
    """How a job's end counts for those that come after it.

    A job that was cancelled because one before it failed counts as failed: failure passes through.
    """

    SUCCESS = "success"
    FAILURE = "failure"
    CANCELLED = "cancelled"


class Edge(msgspec.Struct, frozen=True, gc=False):
    """`child` comes after `parent`. A child's edges are kept in the order in which they were added.

    `cancels_siblings`: when this edge breaks, the child's other parents are cancelled, too, and
    what those wait for.
    """

    parent: str
    child: str
    rule: Rule = Rule.SUCCESS
    role: Role = Role.INPUT
    join: Join = Join.FIRST
    cancels_siblings: bool = False


class ParentEnd(msgspec.Struct, frozen=True, gc=False):
    """How a parent ended, for the job behind it.

    `cause` is the job whose end passed through the parent ("" where the parent ended by itself);
    `error` is that job's, or the parent's own. `is_gone`: the parent was deleted.
    """

    id: str
    role: Role
    state: State
    result: bytes = b""
    error: bytes = b""
    cause: str = ""
    is_gone: bool = False


def fate_of(state: State) -> Fate:
    """Return how a job that ended by itself, or by a person's hand, counts for those after it."""
    match state:
        case State.SUCCEEDED:
            return Fate.SUCCESS
        case State.CANCELLED:
            return Fate.CANCELLED
        case _:
            return Fate.FAILURE


def holds(rule: Rule, fate: Fate) -> bool:
    """Return whether a parent's fate is what the edge wanted."""
    return rule is Rule.DONE or rule.value == fate.value


def inherited(rule: Rule, fate: Fate) -> Fate:
    """Return the fate of a job that is cancelled because an edge with this rule broke."""
    passes = rule is Rule.SUCCESS and fate is Fate.FAILURE
    return Fate.FAILURE if passes else Fate.CANCELLED


def broken_reason(rule: Rule, fate: Fate, cause: str) -> str:
    """Return why a job is cancelled whose edge broke; `cause` is where that began."""
    match fate:
        case Fate.FAILURE:
            return f"job {cause} failed"
        case Fate.CANCELLED:
            return f"job {cause} was cancelled"
        case Fate.SUCCESS:
            return f"job {cause} succeeded, and this one was to come after its {rule.value}"
