"""Interned names: a queue or a (task, kind) as a small number, remembered per connection."""

from __future__ import annotations

from typing import Final, cast

import apsw

from cicely.core.job import Kind
from cicely.engines.sqlite.statements import statements

_SQL: Final = statements("names")
_KINDS: Final = frozenset(Kind)
_QUEUES_AFTER: Final = _SQL["queues_after"]
_CLASSES_AFTER: Final = _SQL["classes_after"]

#: Stands for a class that somebody removed by hand.
_UNKNOWN: Final = ("", Kind.MESSAGE)


class Names:
    """What one connection has seen of the two name tables; both only grow.

    And how far its sweeps have come in the tables of valves and lanes, of which some go.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._queue_ids: dict[str, int] = {}
        self._queue_names: dict[int, str] = {}
        self._class_ids: dict[tuple[str, str], int] = {}
        self.classes: dict[int, tuple[str, Kind]] = {}
        self.valves_swept_to = 0
        self.lanes_swept_to = 0

    def forget(self) -> None:
        """Drop everything: some of it may have been rolled back."""
        self.__init__(self._connection)  # type: ignore[misc]

    def queue_id(self, name: str) -> int:
        """Return the number of a queue, a new one where it has none."""
        number = self._queue_ids.get(name)
        if number is None:
            number = self._interned("add_queue", name)
            self._queue_ids[name] = number
            self._queue_names[number] = name
        return number

    def class_id(self, task: str, kind: str) -> int:
        """Return the number of a class, a new one where it has none."""
        number = self._class_ids.get((task, kind))
        if number is None:
            number = self._interned("add_class", task, kind)
            self._class_ids[task, kind] = number
            self.classes[number] = (task, Kind(kind))
        return number

    def queue_name(self, number: int) -> str:
        """Return a queue's name; "" where somebody removed it by hand."""
        if number not in self._queue_names:
            self._queue_names.update(self._connection.execute(_QUEUES_AFTER, (0,)))
        return self._queue_names.get(number, "")

    def class_of(self, number: int) -> tuple[str, Kind]:
        """Return a class's task and kind."""
        if number not in self.classes:
            self._read_classes()
        return self.classes.get(number, _UNKNOWN)

    def _interned(self, statement: str, *name: str) -> int:
        [(number,)] = self._connection.execute(_SQL[statement], name).fetchall()
        return cast(int, number)

    def _read_classes(self) -> None:
        for number, task, kind in self._connection.execute(_CLASSES_AFTER, (0,)):
            if kind in _KINDS:
                self.classes[number] = (task, Kind(kind))
