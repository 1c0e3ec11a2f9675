"""Whether every accepted job ended on exactly one side. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from cicely.migration.accounts import Entry, How
from cicely.migration.routing import Which
from cicely.migration.sides import Standing

Standings = Mapping[Which, Mapping[str, Standing]]


class Book(msgspec.Struct, frozen=True):
    """The entries by what they say: who accepted each job, and where copies of it were sent."""

    accepted: Mapping[str, frozenset[Which]]
    shadowed: frozenset[tuple[str, Which]]

    def ids_of(self, which: Which) -> list[str]:
        """Return the jobs that a side accepted."""
        return [job_id for job_id, sides in self.accepted.items() if which in sides]

    def pairs(self) -> list[str]:
        """Return the jobs that both sides were given so that they can be compared."""
        return [job_id for job_id, _ in self.shadowed if job_id in self.accepted]


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """How many jobs were accepted and how many ended on which side; the pending ones are still there."""

    accepted: int
    old: int
    new: int
    both: tuple[str, ...]
    pending_old: tuple[str, ...]
    pending_new: tuple[str, ...]
    lost: tuple[str, ...]

    @property
    def pending(self) -> tuple[str, ...]:
        """The jobs that have not ended yet."""
        return self.pending_old + self.pending_new

    @property
    def is_settled(self) -> bool:
        """Whether nothing is lost, doubled or unended on the old side."""
        return not (self.both or self.lost or self.pending_old)

    @property
    def is_clean(self) -> bool:
        """Whether every accepted job ended on exactly one side."""
        return self.is_settled and not self.pending_new

    @property
    def exit_code(self) -> int:
        """0 where it is clean, else 1."""
        return 0 if self.is_clean else 1

    def __str__(self) -> str:
        """Say it in one line, and name up to ten jobs of each kind that should not be."""
        head = (
            f"accepted {self.accepted}, old {self.old}, new {self.new}, both {len(self.both)}, "
            f"pending {len(self.pending)}, lost {len(self.lost)}"
        )
        kinds = {"both": self.both, "pending": self.pending, "lost": self.lost}
        return "\n".join([head, *(f"  {kind}: {', '.join(ids[:10])}" for kind, ids in kinds.items() if ids)])


def book_of(entries: Iterable[Entry]) -> Book:
    """Return the book that these entries make."""
    accepted: dict[str, frozenset[Which]] = {}
    shadowed: set[tuple[str, Which]] = set()
    for entry in entries:
        match entry.how:
            case How.ACCEPTED:
                accepted[entry.job_id] = accepted.get(entry.job_id, frozenset()) | {entry.which}
            case How.SHADOWED:
                shadowed.add((entry.job_id, entry.which))
            case How.NOTED:
                continue
    return Book(accepted, frozenset(shadowed))


def verified(book: Book, standings: Standings) -> Verification:
    """Judge the book by what both sides say of its jobs.

    A side that knows a job counts, unless it was given the job as a copy only: so a job that a side
    took although it answered with an error is found as well.
    """
    ended: dict[Which, int] = dict.fromkeys(Which, 0)
    pending: dict[Which, list[str]] = {which: [] for which in Which}
    both, lost = [], []
    for job_id, takers in book.accepted.items():
        known = [
            which
            for which in Which
            if standings[which][job_id].is_known and (which in takers or (job_id, which) not in book.shadowed)
        ]
        match known:
            case []:
                lost.append(job_id)
            case [which] if standings[which][job_id].has_ended:
                ended[which] += 1
            case [which]:
                pending[which].append(job_id)
            case _:
                both.append(job_id)
    return Verification(
        accepted=len(book.accepted),
        old=ended[Which.OLD],
        new=ended[Which.NEW],
        both=tuple(both),
        pending_old=tuple(pending[Which.OLD]),
        pending_new=tuple(pending[Which.NEW]),
        lost=tuple(lost),
    )
