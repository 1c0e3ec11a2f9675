"""Interned names: a queue or a (task, kind) as a small number, remembered per process."""

from __future__ import annotations

from typing import Any, Final

from cicely.core.job import Kind
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.streams import Streams

_SQL: Final = statements("names")
_KINDS: Final = frozenset(Kind)
_UNKNOWN: Final = ("", Kind.MESSAGE)


class Unnamed(Exception):
    """A transaction needs names that have no number yet: it is to be repeated after they were given one."""

    def __init__(self, statement: str, names: dict[str, str]) -> None:
        super().__init__(statement, names)
        self.statement = statement
        self.names = names


class Names:
    """What one process has seen of the two name tables, which only grow; committed names alone."""

    def __init__(self) -> None:
        self._queue_ids: dict[str, int] = {}
        self._queue_names: dict[int, str] = {}
        self._class_ids: dict[tuple[str, str], int] = {}
        self.streams = Streams()
        #: Whether there were gated queues when somebody looked last.
        self.is_flowing = False
        self._classes: dict[int, tuple[str, Kind]] = {}

    def queue_id(self, name: str) -> int:
        """Return the number of a queue. Raises Unnamed where it has none that is known here."""
        number = self._queue_ids.get(name)
        if number is None:
            raise Unnamed("add_queue", {"name": name})
        return number

    def class_id(self, task: str, kind: str) -> int:
        """Return the number of a class. Raises Unnamed where it has none that is known here."""
        number = self._class_ids.get((task, kind))
        if number is None:
            raise Unnamed("add_class", {"task": task, "kind": kind})
        return number

    def queue_name(self, number: int, connection: Any) -> str:
        """Return a queue's name; "" where somebody removed it by hand."""
        if number not in self._queue_names:
            self.read(connection)
        return self._queue_names.get(number, "")

    def class_of(self, number: int, connection: Any) -> tuple[str, Kind]:
        """Return a class's task and kind."""
        known = self._classes.get(number)
        if known is None:
            self.read(connection)
            known = self._classes.get(number, _UNKNOWN)
        return known

    def classes(self) -> dict[int, tuple[str, Kind]]:
        """Return the classes that are known here, which only become more."""
        return self._classes

    def read(self, connection: Any) -> None:
        """Learn the names that there are; what another transaction has not committed is not seen."""
        for number, name in connection.execute(_SQL["queues"]).fetchall():
            self._queue_ids[name] = number
            self._queue_names[number] = name
        for number, task, kind in connection.execute(_SQL["classes"]).fetchall():
            if kind in _KINDS:
                self._class_ids[task, kind] = number
                self._classes[number] = (task, Kind(kind))


def add(missing: Unnamed, connection: Any) -> None:
    """Give a name its number."""
    connection.execute(_SQL[missing.statement], missing.names)
