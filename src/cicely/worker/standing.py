"""The demand that an idle child leaves with its clerk, and who takes what it brings.

Where one thread runs all plain jobs of a child, it waits for the clerk's answer itself: if the thread
that talks to the engine passed it on, the job would start one wake-up later.
"""

from __future__ import annotations

import select
import threading
from collections.abc import Callable

from cicely.engines.contract import Demand
from cicely.worker.desk import Desk, never
from cicely.worker.errands import Brought


class Standing:
    """One child's. `take` is called with what was brought, by one thread at a time.

    An engine that does not answer is asked again until `is_over`.
    """

    def __init__(
        self, desk: Desk, take: Callable[[Brought], None], *, is_over: Callable[[], bool] = never
    ) -> None:
        self._desk = desk
        self._take = take
        self._is_over = is_over
        self._lock = threading.Lock()
        self._ear: select.epoll | None = None
        self._is_listened_for = False
        self._error: Exception | None = None

    # --- the thread that talks to the engine --------------------------------------------------
    def leave(self, demand: Demand) -> None:
        """Leave a demand."""
        with self._lock:
            self._desk.leave(demand)
            self._is_listened_for = self._ear is not None
            self._listen()

    def fileno(self) -> int:
        """Return a descriptor that is readable when something was brought; -1 where a listener takes it."""
        return -1 if self._is_listened_for else self._desk.fileno()

    def collect(self) -> None:
        """Take what was brought, unless a listener has; take the demand back where nothing was."""
        with self._lock:
            if self._error is not None:
                raise self._error
            self._take(self._desk.collect(self._is_over))

    # --- the thread that runs jobs ------------------------------------------------------------
    def ear(self, read_fd: int, *, then: Callable[[], None]) -> Callable[[], None]:
        """Return what waits for `read_fd` or an answer, which it takes; `then` is called after that."""
        ear = select.epoll()
        ear.register(read_fd, select.EPOLLIN)
        # Of what is said meanwhile nothing is for this thread: only a demand that stands turns it on, once.
        ear.register(self._desk, select.EPOLLONESHOT)
        with self._lock:
            self._ear = ear
        desk_fd = self._desk.fileno()

        def wait() -> None:
            if any(fd == desk_fd for fd, _ in ear.poll()) and self._take_what_is_there():
                then()

        return wait

    def _listen(self) -> None:
        if self._ear is not None:
            self._ear.modify(self._desk, select.EPOLLIN | select.EPOLLONESHOT)

    def _take_what_is_there(self) -> bool:
        with self._lock:
            if self._desk.standing is None:
                return False
            if not self._desk.is_answered:
                # This was about an earlier one.
                self._listen()
                return False
            try:
                self._take(self._desk.collect(self._is_over))
            except Exception as error:  # noqa: BLE001  (it ends the thread that talks to the engine)
                self._error = error
            return True
