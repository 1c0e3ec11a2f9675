"""What one call writes down of its moves: the counts of the minute, and events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from cicely.core.event import Event
from cicely.core.rollup import CODES, Count, Word, bucket_of, minute_of, run_us
from cicely.engines.contract import Session
from cicely.engines.postgres.statements import statements

_SQL: Final = statements("past")

#: The columns of a cell beside its queue, in the order of the statement `add_one`.
CELL: Final = ("minutes", "words", "classes", "names", "buckets", "counts", "sums")

#: Of what did not run.
NO_BUCKET: Final = -1

_encode = msgspec.msgpack.Encoder().encode


class Told(NamedTuple):
    """An event of a job, but for what is looked up when it is written: its workflow, who held it."""

    event: Event
    n: int
    session: int | None
    has_label: bool


class Record:
    """Counts and events of one transaction, gathered and written once, at its end."""

    def __init__(self, now: float) -> None:
        self._now = now
        self._minute = minute_of(now)
        #: By (minute, word, queue, class, name, bucket), the count and its microseconds.
        self._cells: dict[tuple[int, int, int, int, str, int], list[int]] = {}
        self._told: list[Told] = []

    def count(
        self, word: Word, queue: int, job_class: int, *, started_at: float | None, count: int = 1
    ) -> float | None:
        """Count a word of a job; return how long it ran, None where it did not."""
        if started_at is None:
            self._add((self._minute, CODES[word], queue, job_class, "", NO_BUCKET), count, 0)
            return None
        took_us = run_us(started_at, self._now)
        self._add(
            (self._minute, CODES[word], queue, job_class, "", bucket_of(took_us)), count, count * took_us
        )
        return took_us / 1e6

    def count_other(self, word: Word, count: int = 1, *, name: str = "", ago_s: float = 0.0) -> None:
        """Count something that is no job's."""
        minute = minute_of(self._now - max(0.0, ago_s))
        self._add((minute, CODES[word], 0, 0, name, NO_BUCKET), count, 0)

    def report(self, counts: Iterable[Count]) -> None:
        """Add what workers saw."""
        for one in counts:
            self.count_other(one.word, one.count, name=one.name, ago_s=one.ago_s)

    def _add(self, key: tuple[int, int, int, int, str, int], count: int, sum_us: int) -> None:
        cell = self._cells.setdefault(key, [0, 0])
        cell[0] += count
        cell[1] += sum_us

    def tell(self, kind: str, *, name: str = "", reason: str = "") -> None:
        """Write an event down that is no job's."""
        self._told.append(
            Told(Event(kind=kind, at=self._now, name=name, reason=reason), 0, None, has_label=False)
        )

    def tell_of_worker(self, kind: str, session: Session) -> None:
        """Tell of a supervisor; children come and go with it."""
        if session.is_supervisor:
            self.tell(kind, name=session.id, reason=session.name)

    def tell_of(self, event: Event, n: int, session: int | None, *, has_label: bool) -> None:
        """Write an event of a job down."""
        self._told.append(Told(event, n, session, has_label))

    # --- writing --------------------------------------------------------------------------
    def take_cells(self) -> dict[str, list[Any]] | None:
        """Return what was counted as the columns of `add`, and forget it; None for nothing."""
        if not self._cells:
            return None
        cells, self._cells = self._cells, {}
        minutes, words, queues, classes, names, buckets = (
            list(column) for column in zip(*cells, strict=True)
        )
        return {
            "minutes": minutes,
            "words": words,
            "queues": queues,
            "classes": classes,
            "names": names,
            "buckets": buckets,
            "counts": [cell[0] for cell in cells.values()],
            "sums": [cell[1] for cell in cells.values()],
        }

    def write_events(self, txn: Any) -> None:
        """Write the events down."""
        told, self._told = self._told, []
        if told:
            events = [one.event for one in _completed(txn, told)]
            txn.execute(_SQL["tell"], {"ats": [e.at for e in events], "datas": [_encode(e) for e in events]})


def _completed(txn: Any, told: Sequence[Told]) -> Sequence[Told]:
    labelled = [one.n for one in told if one.has_label]
    held = {one.session for one in told if one.session is not None}
    workflows = dict(txn.rows(_SQL["labels"], {"ns": labelled})) if labelled else {}
    names = dict(txn.rows(_SQL["sessions"], {"ids": list(held)})) if held else {}
    return [
        one._replace(
            event=msgspec.structs.replace(
                one.event, workflow=workflows.get(one.n, ""), name=names.get(one.session, "")
            )
        )
        if one.n
        else one
        for one in told
    ]
