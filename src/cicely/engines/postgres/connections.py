"""The connections of one process: made when needed, kept while they work, thrown away when they broke."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Final

import psycopg
from psycopg import sql

from cicely.engines.postgres import schema
from cicely.engines.postgres.address import SYNCHRONOUS_COMMIT, Address
from cicely.engines.postgres.arrays import take_arrays
from cicely.engines.postgres.bounded import BoundedConnection
from cicely.engines.postgres.faults import refused, translated
from cicely.engines.postgres.wire import Wired
from cicely.errors import EngineUnavailable

#: More threads of one process than this wait for each other; the server's connections are scarce.
MOST_OPEN: Final = 8
_PATIENCE_S: Final = 30.0

#: The statements are written for nested loops over indexes, whatever the statistics say of tables that
#: are empty now and full in a second; a client that was stopped inside a transaction lets go of its locks,
#: and a statement that its client has given up ends.
_SETTINGS: Final = (
    "SELECT set_config('search_path', {schema}, {is_local}),"
    " set_config('synchronous_commit', {commit}, {is_local}),"
    " set_config('default_transaction_isolation', 'read committed', {is_local}),"
    " set_config('plan_cache_mode', 'force_generic_plan', {is_local}),"
    " set_config('enable_seqscan', 'off', {is_local}), set_config('enable_hashjoin', 'off', {is_local}),"
    " set_config('enable_mergejoin', 'off', {is_local}), set_config('jit', 'off', {is_local}),"
    " set_config('max_parallel_workers_per_gather', '0', {is_local}),"
    " set_config('idle_in_transaction_session_timeout', '5s', {is_local}),"
    " set_config('statement_timeout', {patience}, {is_local}),"
    " set_config('client_min_messages', 'warning', {is_local})"
)


class Connections:
    """Idle connections of one process, the one used last on top."""

    def __init__(self, address: Address) -> None:
        self.pid = os.getpid()
        self.address = address
        self._idle: list[Wired] = []
        self._places = threading.Semaphore(MOST_OPEN)
        self._is_closed = False
        self._is_checked = False

    @contextlib.contextmanager
    def one(self) -> Iterator[Wired]:
        """Lend a connection in autocommit mode; a broken one, or one inside a transaction, is not kept."""
        if not self._places.acquire(timeout=_PATIENCE_S):
            raise EngineUnavailable(
                f"{MOST_OPEN} threads of this process kept all connections to {self.address.shown} for "
                f"{_PATIENCE_S:g} s; the call may be repeated"
            )
        try:
            link = self._idle.pop() if self._idle else self.connected()
            try:
                yield link
            finally:
                self._take_back(link)
        finally:
            self._places.release()

    def _take_back(self, link: Wired) -> None:
        is_idle = link.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        if self._is_closed or link.closed or not is_idle:
            link.close()
        else:
            self._idle.append(link)

    def connected(self) -> Wired:
        """Make a connection, configured. Raises an EngineError."""
        link = self.unchecked()
        try:
            self._prepare(link)
        except psycopg.Error as error:
            link.close()
            raise translated(error, self.address) from error
        except BaseException:
            link.close()
            raise
        return link

    def unchecked(self) -> BoundedConnection:
        """Make a connection, whatever is in the database. Raises an EngineError."""
        try:
            # What is prepared is on the wire: psycopg would forget it with a rollback.
            link = BoundedConnection.connect(self.address.conninfo, autocommit=True, prepare_threshold=None)
        except psycopg.Error as error:
            raise refused(error, self.address) from error
        take_arrays(link)
        link.is_shared = self.address.pooler != "none"
        return link

    def _prepare(self, link: BoundedConnection) -> None:
        if not self._is_checked:
            # More patiently: tables may have to be made, or another process may be making them.
            schema.check(link, self.address)
            self._is_checked = True
        link.patience_s = self.address.silence_s
        if self.address.pooler == "none":
            link.execute(self.settings(is_local=False))

    def settings(self, *, is_local: bool) -> sql.Composed:
        """Return the statement that sets up a connection, or one transaction behind a pooler."""
        return sql.SQL(_SETTINGS).format(
            schema=sql.Literal(self.address.schema),
            commit=sql.Literal(SYNCHRONOUS_COMMIT[self.address.durability]),
            is_local=sql.Literal(is_local),
            patience=sql.Literal(f"{int(self.address.silence_s * 1000)}ms"),
        )

    def forget_idle(self) -> None:
        """Throw away what may have broken together with another connection."""
        while self._idle:
            self._idle.pop().close()

    def close(self) -> None:
        """Close what is idle now, and the others when they are given back."""
        self._is_closed = True
        self.forget_idle()

    def leave_to_parent(self) -> None:
        """In a forked child: keep the parent's connections from being closed, or used."""
        _inherited.extend(self._idle)
        self._idle = []


#: Kept for ever: to close them would be to end the parent's sessions.
_inherited: list[object] = []
