"""How far a worker's stop has come: jobs run on for a while, are asked to wrap up, then are killed."""

from __future__ import annotations

from typing import Final

WRAP_UP_S: Final = 2.0
#: So long an engine that does not answer is asked in the end, with jobs to give back and without.
_OWING_S: Final = 10.0
_LEAVING_S: Final = 2.0


class Stop:
    """One worker's. `grace_s`: jobs run on for so long. `now`: a clock that never stops."""

    def __init__(self, grace_s: float) -> None:
        self.is_on = False
        #: Sessions of dead children whose jobs the engine has not got back yet.
        self.owing: set[str] = set()
        self._grace_s = grace_s
        self._since = 0.0
        self._is_at_once = False
        self._has_wrapped_up = False

    def ask(self, now: float) -> bool:
        """Note a request to stop and return whether it is the first; a second one leaves no time."""
        if self.is_on:
            self._is_at_once = True
            return False
        self.is_on = True
        self._since = now
        return True

    @property
    def farewell_s(self) -> float:
        """How long the engine is told that this worker leaves: one that holds nothing may be found gone."""
        return _OWING_S if self.owing else _LEAVING_S

    def asks_to_wrap_up(self, now: float) -> bool:
        """Return, once, that jobs are to be asked to end: their time is over."""
        if not self.is_on or self._has_wrapped_up or now - self._since <= self._grace_s:
            return False
        self._has_wrapped_up = True
        return True

    def kills(self, now: float) -> bool:
        """Return whether what still runs is to be killed."""
        return self.is_on and (self._is_at_once or now - self._since > self._grace_s + WRAP_UP_S)
