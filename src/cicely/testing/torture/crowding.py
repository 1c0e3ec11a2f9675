"""What a torture found of limits, units and lanes: invariants I11 and I12."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from cicely.testing.ledger import Crowd, Line, crowds

#: So many pass the limit of the gate at once: half of the processes, so that a broken limit shows.
AT_THE_GATE: Final = 2
#: Whoever comes alone waits for a few of a crowd, not for so many of them.
FAR_BACK: Final = 30
#: So many of those that came alone may: a process that was stopped or cut off may have held their claim.
_EXCUSED: Final = 0.2


class Alone(msgspec.Struct, frozen=True):
    """A job that was accepted behind a crowd of another user, and when, on the clock of the ledger."""

    job_id: str
    crowd: str
    accepted_at: float


class Crowding(msgspec.Struct, frozen=True, kw_only=True):
    """How full it was, and who waited.

    `at_once` were under the limit of the gate together. `beyond` entered a place that was full. `leaked`
    is what was still held or taken when nothing ran any more. Of the `alone`, `far_back` saw most of a crowd
    start that had come before them, though no claim of theirs was lost.
    """

    entered: int
    at_once: int
    beyond: int
    leaked: int
    alone: int
    far_back: int

    @property
    def has_starved(self) -> bool:
        """Whether more of them waited than faults explain."""
        return self.far_back > max(1.0, _EXCUSED * self.alone)

    @property
    def is_clean(self) -> bool:
        """Whether no limit and no unit was exceeded or leaked, and nobody starved."""
        return not (self.beyond or self.leaked or self.has_starved)

    def figures(self) -> list[tuple[str, int, str]]:
        """Return names, figures and remarks for the report; "0" is what must be 0."""
        excused = max(1, int(_EXCUSED * self.alone))
        return [
            ("under a limit or on a unit", self.entered, ""),
            ("under one limit at once", self.at_once, f"of {AT_THE_GATE} at most"),
            ("beyond a limit, or a unit twice", self.beyond, "0"),
            ("held or taken when all had ended", self.leaked, "0"),
            (f"of {self.alone:,} alone, far behind a crowd", self.far_back, f"at most {excused}"),
        ]


def crowding_of(lines: Sequence[Line], *, alone: Iterable[Alone], gate: str, leaked: int) -> Crowding:
    """Judge what the ledger has of places and lanes."""
    places = crowds(lines)
    waited = _before(lines, list(alone))
    return Crowding(
        entered=sum(place.entered for place in places.values()),
        at_once=places.get(gate, Crowd(0, 0, 0)).most,
        beyond=sum(place.beyond for place in places.values()),
        leaked=leaked,
        alone=len(waited),
        far_back=sum(count > FAR_BACK for count in waited),
    )


def _before(lines: Iterable[Line], alone: Sequence[Alone]) -> list[int]:
    """Return, for each that came alone, how many of the crowd started after it had come and before it did.

    Left out are those that never started, and those whose claim was lost before they could.
    """
    first: dict[str, Line] = {}
    for line in lines:
        if line.what == "start":
            first.setdefault(line.job_id, line)
    started: dict[str, list[float]] = {}
    for job_id, line in first.items():
        started.setdefault(job_id.rpartition("-")[0], []).append(line.at)
    return [
        sum(one.accepted_at < at < first[one.job_id].at for at in started.get(one.crowd, ()))
        for one in alone
        if one.job_id in first and first[one.job_id].fence == 1
    ]
