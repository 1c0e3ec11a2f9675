"""What one process has of one database: connections, lock and bells. A forked child makes its own."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TypeVar

import apsw

from cicely.engines.sqlite.bells import Bells
from cicely.engines.sqlite.commits import Commits, Work
from cicely.engines.sqlite.faults import translated
from cicely.engines.sqlite.forks import forks
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
        self._reading: apsw.Connection | None = None
        self._names: Names | None = None
        self._reader = threading.Lock()
        try:
            with forks.opening(self):
                self.commits = self._opened(busy_timeout_s)
        except BaseException:
            self.turnstile.close()
            self.bells.close()
            raise

    def _opened(self, busy_timeout_s: float) -> Commits:
        writing = self._connected(busy_timeout_s)
        self._place.remember()
        return Commits(
            writing,
            place=self._place,
            turnstile=self.turnstile,
            bells=self.bells,
            now=self._now,
            busy_timeout_s=busy_timeout_s,
        )

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
        forks.forget(self)
        self.commits.close()
        with self._reader:
            self._stop_reading()
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

    def _stop_reading(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.close()

    # --- forks ----------------------------------------------------------------------------
    def hold(self, timeout_s: float) -> bool:
        """Let no call begin and close the connections; False where calls go on for too long."""
        if not self.commits.hold(timeout_s):
            return False
        if not self._reader.acquire(timeout=timeout_s):
            self.commits.let_go()
            return False
        self._stop_reading()
        return True

    def let_go(self) -> None:
        """Let calls begin again."""
        self._reader.release()
        self.commits.let_go()

    def leave_to_parent(self) -> None:
        """In a forked child: close what is a plain file."""
        self.turnstile.abandon()
        self.bells.close()
