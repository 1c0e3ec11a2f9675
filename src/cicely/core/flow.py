"""What holds jobs back beside their queue: the keys of limits and breakers, resources, where they may run.

A *valve* is what guards a key: a limit or a breaker. Ready jobs that are alike in all this stand in one
*stream* of their lane, of which only the first is looked at: when it may not pass, the others wait
behind it, and a claim pays for streams, not for jobs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

#: The key of a breaker's valve begins so; no limit's may.
BREAKER_PREFIX: Final = "breaker:"

#: Keys that stand for all jobs of a queue, or with a tag, where an app bounds those.
QUEUE_PREFIX: Final = "queue:"
TAG_PREFIX: Final = "tag:"


class Use(msgspec.Struct, frozen=True, gc=False):
    """What a job takes of one limit: a unit at once, one of its rate, and `cost` of its cost meters."""

    key: str
    cost: Mapping[str, float] = {}


class Flow(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """All that holds one job back, sorted by name, so that equal needs are equal values.

    `resources` are taken of the worker that runs it. `traits` are "name=value": a worker that accepts
    some values of a name takes no job with another.
    """

    uses: tuple[Use, ...] = ()
    breakers: tuple[str, ...] = ()
    resources: tuple[tuple[str, float], ...] = ()
    traits: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the valves that a claim of it passes, sorted."""
        return tuple(
            sorted([use.key for use in self.uses] + [BREAKER_PREFIX + name for name in self.breakers])
        )

    @property
    def passes(self) -> tuple[Use, ...]:
        """What a claim of it takes of all its valves, breakers among them."""
        return (*self.uses, *(Use(BREAKER_PREFIX + name) for name in self.breakers))

    @property
    def needs(self) -> Needs:
        """What jobs of one stream have in common."""
        return Needs(self.keys, self.resources, self.traits)


class Needs(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What the jobs of one stream have in common beside their task, kind, queue and lane.

    `shuns` is the worker that failed it, for no fault of the job: it takes the job only where no other
    worker serves its queue and runs its task. `draws` is the workflow whose reservations they may draw
    from ("" for none); such a job shuns nobody.
    """

    keys: tuple[str, ...] = ()
    resources: tuple[tuple[str, float], ...] = ()
    traits: tuple[str, ...] = ()
    shuns: str = ""
    draws: str = ""


NO_NEEDS: Final = Needs()


def accepts(accepted: Mapping[str, tuple[str, ...]], traits: tuple[str, ...]) -> bool:
    """Return whether a worker that accepts these values of these names takes a job with `traits`."""
    for trait in traits:
        name, _, value = trait.partition("=")
        if name in accepted and value not in accepted[name]:
            return False
    return True
