"""LISTEN: one connection and one thread per process, which wake the bells that notifications name.

A notification is sent to a bell that is armed, and disarms it: under load nobody is armed, and nobody
notified. Where the connection breaks, every bell is rung, so that its owner looks for itself, and the
thread connects again. All of it is a hint: a lost ring delays work until the next look.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
from collections.abc import Callable, Collection
from typing import Final

import psycopg

from cicely.engines.postgres.connections import Connections
from cicely.engines.postgres.news import sieve_of
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.wire import Wired
from cicely.errors import CicelyError

log = logging.getLogger("cicely")

_SQL: Final = statements("news")
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0
_JOIN_S: Final = 2.0


class Listener:
    """The ear of one process."""

    def __init__(self, connections: Connections) -> None:
        self.pid = os.getpid()
        self.channel = f"cicely_{os.urandom(12).hex()}"
        self.backend = 0
        self.connections = connections
        self._bells: dict[str, PostgresBell] = {}
        self._lock = threading.Lock()
        self._stop_fd, self._stopping_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._is_stopping = False
        link = self._listening()
        self._thread = threading.Thread(target=self._run, args=(link,), name="cicely-listen", daemon=True)
        self._thread.start()

    def _listening(self) -> Wired:
        link = self.connections.connected()
        link.execute(f"LISTEN {self.channel}")
        self.backend = link.info.backend_pid
        return link

    def add(self, bell: PostgresBell) -> None:
        """Wake this bell when it is named."""
        with self._lock:
            self._bells[bell.id] = bell

    def remove(self, bell: PostgresBell) -> None:
        """Wake this bell no more."""
        with self._lock:
            self._bells.pop(bell.id, None)

    def close(self) -> None:
        """Stop listening."""
        if self._is_stopping:
            return
        self._is_stopping = True
        os.write(self._stopping_fd, b"!")
        self._thread.join(_JOIN_S)
        os.close(self._stopping_fd)
        os.close(self._stop_fd)

    def _run(self, first: Wired) -> None:
        link: Wired | None = first
        pause_s = _FIRST_PAUSE_S
        while not self._is_stopping:
            try:
                if link is None:
                    link = self._listening()
                    self._ring_all()
                pause_s = _FIRST_PAUSE_S
                self._hear(link)
            except (psycopg.Error, OSError, CicelyError) as error:
                log.debug("not listening for %g s: %s", pause_s, error)
                self._ring_all()
                if link is not None:
                    link.close()
                link = None
                self._rest(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        if link is not None:
            link.close()

    def _hear(self, link: Wired) -> None:
        """Ring what notifications name, until told to stop. Raises where the connection breaks."""
        connection = link.pgconn
        poller = select.poll()
        poller.register(connection.socket, select.POLLIN)
        poller.register(self._stop_fd, select.POLLIN)
        while not self._is_stopping:
            connection.consume_input()
            while (notice := connection.notifies()) is not None:
                self._ring(notice.extra.decode())
            poller.poll()

    def _rest(self, seconds: float) -> None:
        select.select([self._stop_fd], [], [], seconds)

    def _ring(self, bell_id: str) -> None:
        with self._lock:
            bell = self._bells.get(bell_id)
            if bell is not None:
                bell.rung()

    def _ring_all(self) -> None:
        with self._lock:
            for bell in self._bells.values():
                bell.rung()


class PostgresBell:
    """A row in the table of those who wait, and a pipe; without a listener `fileno` is -1."""

    def __init__(
        self, listen: Callable[[], Listener | None], owner: str, job_ids: Collection[str] = ()
    ) -> None:
        self.id = os.urandom(12).hex()
        self._owner = owner
        self._sieve = sieve_of(job_ids) if job_ids else None
        self._pid = os.getpid()
        self._is_armed = False
        self._is_rung = False
        self._is_closed = False
        self._lock = threading.Lock()
        self._listener = listen()
        self._read_fd = self._write_fd = -1
        if self._listener is not None:
            self._read_fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            self._listener.add(self)

    def fileno(self) -> int:
        """Return the reading end of the pipe."""
        return self._read_fd

    def arm(self) -> None:
        """Be rung from now on."""
        listener = self._listener
        if listener is None or self._is_closed:
            return
        with self._lock:
            if self._is_armed and not self._is_rung:
                return
            self._is_armed, self._is_rung = True, False
        self._write(
            "arm",
            {
                "id": self.id,
                "channel": listener.channel,
                "backend": listener.backend,
                "owner": self._owner,
                "sieve": self._sieve,
            },
        )

    def rung(self) -> None:
        """Become readable, if armed; the listener calls it."""
        with self._lock:
            if self._is_armed and not self._is_rung and not self._is_closed:
                self._is_rung = True
                with contextlib.suppress(BlockingIOError):
                    os.write(self._write_fd, b"!")

    def disarm(self) -> None:
        """Be rung no more, and forget the rings so far."""
        with self._lock:
            must_leave = self._is_armed and not self._is_rung
            self._is_armed = False
            if self._read_fd >= 0:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._read_fd, 4096)
        if must_leave and not self._is_closed:
            self._write("disarm", {"id": self.id})

    def _write(self, statement: str, bindings: dict[str, object]) -> None:
        listener = self._listener
        if listener is None:
            return
        # Where the server is away, the owner's next look is refused, and it waits by the clock.
        with contextlib.suppress(psycopg.Error, CicelyError), listener.connections.one() as link:
            link.wire.add(_SQL[statement], bindings)
            link.wire.send()

    def close(self) -> None:
        """Leave the table and give the pipe back; a forked copy only lets go of the pipe."""
        if self._is_closed:
            return
        if self._listener is not None and self._pid == os.getpid():
            self.disarm()
            self._listener.remove(self)
        with self._lock:
            self._is_closed = True
            for fd in (self._read_fd, self._write_fd):
                if fd >= 0:
                    os.close(fd)
            self._read_fd = self._write_fd = -1
