"""A connection that gives up a server which has gone silent.

The kernel notices a host that vanished, by `tcp_user_timeout`. It cannot notice one that still
acknowledges and never answers: a proxy that lost its other side, a stopped server. A keeper that waited
there for ever would be a worker that is dead and never comes back.
"""

from __future__ import annotations

import time
from typing import Final, TypeVar

import psycopg
from psycopg.abc import PQGen

from cicely.engines.postgres.wire import Wired

T = TypeVar("T")

#: How often a wait looks at its clock.
_LOOK_S: Final = 0.1


class BoundedConnection(Wired):
    """Closes itself where the server says nothing for `patience_s`, and raises OperationalError."""

    patience_s: float = 60.0

    def wait(self, gen: PQGen[T], interval: float = _LOOK_S, timeout: float | None = None) -> T:
        """Wait as psycopg does, within bounds."""
        bounded = self._bounded(gen)
        if timeout is None:
            return super().wait(bounded, min(interval, self.patience_s))
        return super().wait(bounded, interval, timeout)

    def _bounded(self, gen: PQGen[T]) -> PQGen[T]:
        """Pass everything on; only the clock is looked at, and only where nothing has come."""
        try:
            wanted = next(gen)
            give_up_at = 0.0
            while True:
                ready = yield wanted
                if ready:
                    give_up_at = 0.0
                elif not give_up_at:
                    give_up_at = time.monotonic() + self.patience_s - _LOOK_S
                elif time.monotonic() > give_up_at:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"no answer for {self.patience_s:g} s")
                wanted = gen.send(ready)
        except StopIteration as end:
            result: T = end.value
            return result
