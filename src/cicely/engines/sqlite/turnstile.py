"""The write lock: a kernel lock beside the database, whose waiters are served one after the other.

SQLite's own busy handler sleeps and tries again, which starves whoever is slow. Here two locks form
a turnstile: a writer takes `-turn`, waits for `-lock`, and lets `-turn` go once it has both. So the
one at the head waits in the kernel, and whoever has just released cannot overtake it.

A wait in the kernel cannot be bounded, so under contention a thread of this process waits there,
and the caller waits for that thread. What waiters do about a holder that is stopped: see `holder`.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from typing import Final

from cicely.engines.sqlite.holder import DEFAULT_PATIENCE_S, Watch, open_card
from cicely.errors import EngineUnavailable

#: A waiter looks so often whether the holder has been stopped.
_LOOK_S: Final = 0.25

_FREE, _WANTED, _GRANTED, _GIVEN_UP, _CLOSED = range(5)


class Turnstile:
    """The lock of one process on one database. One thread at a time may acquire it."""

    def __init__(self, path: str, *, role: str) -> None:
        self._path = path
        self._role = role
        self._turn = _opened(f"{path}-turn")
        self._lock = _opened(f"{path}-lock")
        self._watch = Watch(self._lock, self._turn)
        self._changed = threading.Condition()
        self._state = _FREE
        self._thread: threading.Thread | None = None
        self._acquired = 0
        self._card = open_card(role, self._lock, DEFAULT_PATIENCE_S)

    def be_patient(self, lease_quarter_s: float) -> None:
        """Let others wait so long, from now on, before they take this process for stuck."""
        before, self._card = self._card, open_card(self._role, self._lock, lease_quarter_s)
        if before >= 0:
            os.close(before)

    def close(self) -> None:
        """Let go of the files; a thread that waits in the kernel lets go when its turn comes."""
        with self._changed:
            is_queueing = self._state == _GIVEN_UP
            self._state = _CLOSED
            self._changed.notify_all()
            if not is_queueing:
                self.abandon()

    def abandon(self) -> None:
        """Close the files; in a forked child the lock stays with the parent alone."""
        files = (self._turn, self._lock, self._card)
        self._turn = self._lock = self._card = -1
        for file in files:
            if file >= 0:
                os.close(file)

    def acquire(self, timeout_s: float) -> None:
        """Take the lock. Raises EngineUnavailable, which names the holder."""
        try:
            if not self._taken_at_once():
                self._wait(timeout_s)
            self._mark()
        except BaseException:
            # Ctrl-C, or the end of a job's time: nobody else would let go of what was half taken.
            self._forgo()
            raise

    def release(self) -> None:
        """Let the next one in; may be repeated."""
        if self._state in (_FREE, _GRANTED):
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            self._state = _FREE

    def _mark(self) -> None:
        """Show that this is another turn, should the same process be seen again."""
        self._acquired += 1
        os.pwrite(self._lock, self._acquired.to_bytes(8, "little"), 0)

    def _forgo(self) -> None:
        with self._changed:
            if self._state == _WANTED and self._thread is not None and self._thread.is_alive():
                self._state = _GIVEN_UP
            if self._state in (_GIVEN_UP, _CLOSED):
                return
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            fcntl.flock(self._turn, fcntl.LOCK_UN)
            self._state = _FREE

    def _taken_at_once(self) -> bool:
        if self._state != _FREE:
            return False  # Our thread is still in the queue, and keeps its place there.
        try:
            fcntl.flock(self._turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # Where `-turn` was ours already, the thread goes on waiting behind it.
            return False
        fcntl.flock(self._turn, fcntl.LOCK_UN)
        return True

    def _wait(self, timeout_s: float) -> None:
        give_up_at = time.monotonic() + timeout_s
        with self._changed:
            self._state = _WANTED
            self._start_thread()
            self._changed.notify_all()
            while self._state != _GRANTED:
                left_s = give_up_at - time.monotonic()
                if left_s <= 0:
                    raise EngineUnavailable(self._watch.complaint(self._path, timeout_s))
                self._changed.wait(min(left_s, _LOOK_S))
                self._watch.look(self._path)

    def _start_thread(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._queue_up, name="cicely-sqlite-lock", daemon=True)
            self._thread.start()

    def _queue_up(self) -> None:
        while True:
            with self._changed:
                while self._state not in (_WANTED, _CLOSED):
                    self._changed.wait()
                if self._state == _CLOSED:
                    return
            fcntl.flock(self._turn, fcntl.LOCK_EX)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            fcntl.flock(self._turn, fcntl.LOCK_UN)
            with self._changed:
                if self._state == _WANTED:
                    self._state = _GRANTED
                    self._changed.notify_all()
                elif self._state == _CLOSED:
                    self.abandon()
                elif self._state != _GRANTED:
                    self._state = _FREE
                    fcntl.flock(self._lock, fcntl.LOCK_UN)


def _opened(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
