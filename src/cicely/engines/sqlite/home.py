"""What one process has of one database: connections, lock and bells. A forked child makes its own."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import TypeVar

import apsw

from cicely.engines.sqlite.bells import Bells
from cicely.engines.sqlite.commits import Commits, Work
from cicely.engines.sqlite.faults import translated
from cicely.engines.sqlite.names import Names
from cicely.engines.sqlite.place import Place
from cicely.engines.sqlite.transaction import Transaction
from cicely.engines.sqlite.turnstile import Turnstile
from cicely.errors import EngineError

T = TypeVar("T")


class Home:
    """The open database of one process."""

    def __init__(self, place: Place, *, role: str, now: Callable[[], float], busy_timeout_s: float) -> None:
        place.prepare()
        self.pid = os.getpid()
        self._place = place
        self._now = now
        try:
            self.turnstile = Turnstile(place.path, role=role)
            self.bells = Bells(f"{place.path}-bells")
        except OSError as error:
            raise EngineError(
                f"{error.filename or place.path}: {error.strerror}; check who owns {place.path}, its "
                "folder and the files beside it"
            ) from error
        try:
            self._writing = self._connected(busy_timeout_s)
        except BaseException:
            self.turnstile.close()
            self.bells.close()
            raise
        place.remember()
        self.commits = Commits(
            self._writing,
            place=place,
            turnstile=self.turnstile,
            bells=self.bells,
            now=now,
            busy_timeout_s=busy_timeout_s,
        )
        self._reading: apsw.Connection | None = None
        self._names: Names | None = None
        self._reader = threading.Lock()
        _homes.add(self)

    def _connected(self, busy_timeout_s: float) -> apsw.Connection:
        if not self._place.is_new:
            return self._place.connect()
        # One after the other: SQLite refuses those who come while the first makes the file.
        self.turnstile.acquire(busy_timeout_s)
        try:
            return self._place.connect()
        finally:
            self.turnstile.release()

    def close(self) -> None:
        """Let go of everything."""
        self.commits.close()
        with self._reader:
            if self._reading is not None:
                self._reading.close()
                self._reading = None
        self.turnstile.close()
        self.bells.close()

    def read(self, work: Work[T]) -> T:
        """Carry out a reading verb in one snapshot. Raises an EngineError."""
        with self._reader:
            self._place.check()
            try:
                return self._read(work)
            except (apsw.Error, UnicodeDecodeError) as error:
                raise translated(error, self._place.path) from error

    def _read(self, work: Work[T]) -> T:
        if self._reading is None or self._names is None:
            self._reading = self._place.connect()
            self._names = Names(self._reading)
        connection = self._reading
        connection.execute("BEGIN")
        try:
            return work(Transaction(connection, self._names, {}, now=self._now()))
        finally:
            # A snapshot that stays open keeps the log from being folded into the file.
            if connection.in_transaction:
                connection.execute("COMMIT")

    def leave_to_parent(self) -> None:
        """In a forked child: close what is a plain file, and never touch the parent's connections."""
        _inherited.append((self._writing, self._reading))
        self.turnstile.abandon()
        self.bells.close()


_homes: weakref.WeakSet[Home] = weakref.WeakSet()

#: Kept for ever: to close them would be to close the parent's files behind SQLite's back.
_inherited: list[object] = []


def _after_fork() -> None:
    for home in list(_homes):
        home.leave_to_parent()
        _inherited.append(home)


os.register_at_fork(after_in_child=_after_fork)
