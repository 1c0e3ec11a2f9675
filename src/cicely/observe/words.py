"""The words and numbers in which explanations are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from cicely.core.flow import QUEUE_PREFIX, TAG_PREFIX
from cicely.core.resources import Wants
from cicely.engines.contract import Holder, Surroundings

#: So many holders are named in a sentence; its details have all that are known.
_NAMED: Final = 3

#: What JSON can say.
Detail = str | float | int | bool | None | Sequence["Detail"] | Mapping[str, "Detail"]


def limit_name(key: str) -> str:
    """Return what a limit is called: those of queues and tags are caps and quotas."""
    for prefix, words in ((QUEUE_PREFIX, "the cap of queue"), (TAG_PREFIX, "the quota of tag")):
        if key.startswith(prefix):
            return f"{words} {key.removeprefix(prefix)}"
    return f"limit {key}"


def by(around: Surroundings, holders: Sequence[Holder]) -> str:
    """Return who holds something, as the end of a sentence."""
    if not holders:
        return ""
    names = session_names(around)
    named = [
        f"{one.job_id} on {names.get(one.session, one.session)} for {span(around.now - one.since)}"
        for one in holders[:_NAMED]
    ]
    more = f" and {len(holders) - _NAMED} more" if len(holders) > _NAMED else ""
    return f" by {', '.join(named)}{more}"


def session_names(around: Surroundings) -> dict[str, str]:
    """Return what sessions call themselves, by id."""
    return {one.session.id: one.session.name or one.session.id for one in around.sessions}


def listed(holder: Holder) -> Detail:
    """Return a holder as a detail."""
    units: dict[str, Detail] = {name: dict(units) for name, units in holder.units.items()}
    return {"job": holder.job_id, "session": holder.session, "since": holder.since, "units": units}


def listing(wants: Wants) -> str:
    """Return "gpu 1 and memory_gb 16"."""
    return " and ".join(f"{name} {amount:g}" for name, amount in wants)


def counted(number: int, noun: str) -> str:
    """Return "1 job" or "1,234 jobs"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def span(seconds: float) -> str:
    """Return a duration as people say it: rounded to one unit."""
    for name, unit_s, least in (("d", 86_400.0, 2.0), ("h", 3600.0, 2.0), ("min", 60.0, 2.0)):
        if seconds >= least * unit_s:
            return f"{seconds / unit_s:.0f} {name}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{max(0.0, seconds):.1f} s"  # noqa: PLR2004  (two digits)
