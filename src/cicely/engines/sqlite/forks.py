"""Keeps SQLite apart from fork: no connection is open in the moment in which a process is copied.

SQLite notes in the process's memory which locks of a file it has. A forked child inherits the notes
and not the locks: its own connections would take none, and others would fold and delete the log that
it goes on writing to. So a fork waits until the calls under way have ended, connections are closed
before it, and both sides open anew at their next call.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from cicely.errors import EngineError

#: A fork waits so long for the calls under way.
_PATIENCE_S: Final = 15.0


class Forkable(Protocol):
    """What one process has of one database."""

    def hold(self, timeout_s: float) -> bool:
        """Let no call begin and close the connections; False where calls go on for too long."""

    def let_go(self) -> None:
        """Let calls begin again."""

    def leave_to_parent(self) -> None:
        """In the child: let go of what belongs to the parent."""


class Forks:
    """What of this process has to know of its forks."""

    def __init__(self) -> None:
        self._open: weakref.WeakSet[Forkable] = weakref.WeakSet()
        self._gate = threading.Lock()
        self._held: list[Forkable] = []
        self._forker = 0
        #: Threads whose fork could not wait for the calls under way.
        self._hasty: set[int] = set()
        self._is_spoilt = False
        self._inherited: list[object] = []

    @contextmanager
    def opening(self, one: Forkable) -> Iterator[None]:
        """Let no fork happen while `one` is opened. Raises EngineError where no opening is safe."""
        with self._gate:
            if self._is_spoilt:
                raise EngineError(
                    "this process was forked in the middle of a call to SQLite, whose locks do not hold "
                    "in such a copy; fork between two calls, or start processes by 'spawn'"
                )
            yield
            self._open.add(one)

    def forget(self, one: Forkable) -> None:
        """Leave alone what was closed."""
        self._open.discard(one)

    # --- the hooks ------------------------------------------------------------------------
    def before(self) -> None:
        """Close all connections."""
        me = threading.get_ident()
        if not self._gate.acquire(timeout=_PATIENCE_S):
            self._hasty.add(me)
            return
        self._forker = me
        for one in list(self._open):
            if one.hold(_PATIENCE_S):
                self._held.append(one)
            else:
                self._hasty.add(me)

    def after_in_parent(self) -> None:
        """Go on."""
        me = threading.get_ident()
        self._hasty.discard(me)
        if self._forker != me:
            return
        held, self._held, self._forker = self._held, [], 0
        for one in held:
            one.let_go()
        self._gate.release()

    def after_in_child(self) -> None:
        """Begin anew."""
        open_before = list(self._open)
        is_spoilt = self._is_spoilt or threading.get_ident() in self._hasty
        self.__init__()  # type: ignore[misc]
        self._is_spoilt = is_spoilt
        if is_spoilt:
            # To close these would be to close the parent's files behind SQLite's back.
            self._inherited.extend(open_before)
        for one in open_before:
            one.leave_to_parent()


forks: Final = Forks()

os.register_at_fork(
    before=forks.before, after_in_parent=forks.after_in_parent, after_in_child=forks.after_in_child
)
