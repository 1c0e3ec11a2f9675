"""Rings after enqueues: the first at once, those that follow closely together, a moment later.

A producer that stores thousands of jobs a second would otherwise ask after each of them who waits.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection
from typing import Final

import psycopg

from cicely.errors import CicelyError

#: Work is a set of (queue, task).
Work = set[tuple[str, str]]

_DEBOUNCE_S: Final = 0.005
_FLUSH_S: Final = 1.0


class Ringer:
    """Remembers for whom to ring; its thread starts with the first ring that has to wait."""

    def __init__(self, ring: Callable[[Work], None]) -> None:
        self._ring = ring
        self._lock = threading.Condition()
        self._waiting: Work = set()
        self._rung_at = float("-inf")
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def may_ring_now(self) -> bool:
        """Return whether the caller is to ring by itself, once its work is stored; otherwise soon."""
        now = time.monotonic()
        with self._lock:
            if now - self._rung_at < _DEBOUNCE_S:
                return False
            self._rung_at = now
            return True

    def ring_soon(self, work: Collection[tuple[str, str]]) -> None:
        """Ring in a moment, by the thread."""
        with self._lock:
            if self._is_closed or not work:
                return
            self._waiting.update(work)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="cicely-ring", daemon=True)
                self._thread.start()
            self._lock.notify()

    def _run(self) -> None:
        while True:
            with self._lock:
                while not self._waiting:
                    if self._is_closed:
                        return
                    self._lock.wait()
            time.sleep(_DEBOUNCE_S)
            with self._lock:
                work, self._waiting = self._waiting, set()
                self._rung_at = time.monotonic()
            # A ring is a hint: where the server is away, the next look finds the work.
            with contextlib.suppress(psycopg.Error, CicelyError):
                self._ring(work)

    def close(self) -> None:
        """Ring what still waits, and stop."""
        with self._lock:
            self._is_closed = True
            self._lock.notify()
        if self._thread is not None:
            self._thread.join(_FLUSH_S)
