"""Saying something once: whoever is first notes it in the engine, and is quiet until its time has passed.

All that was said stands in one mark, which is replaced by comparison: of any number of callers one is first.
"""

from __future__ import annotations

from typing import Final

import msgspec

from cicely.engines.contract import MARK, Engine, Schedule
from cicely.upkeep.schedules import change, stored

_NAME: Final = f"{MARK}alarms"
_FORMAT: Final = b"\x01"
#: What was said so long ago is forgotten, unless its time is longer.
_FORGET_S: Final = 30 * 86_400.0

Said = dict[str, float]


class Alarms:
    """What was said, and when, at the engine's `now`."""

    def __init__(self, engine: Engine, *, now: float) -> None:
        self._engine = engine
        self._now = now
        if stored(engine, _NAME) is None:
            engine.put_schedule(Schedule(name=_NAME, spec=_spec_of({}), next_at=None))

    def is_ours(self, what: str, *, cooldown_s: float) -> bool:
        """Return whether to say `what` now: nobody did within `cooldown_s`, and no other caller does."""
        is_first = False

        def note(seen: Schedule) -> Schedule:
            nonlocal is_first
            said = _said_in(seen)
            is_first = what not in said or said[what] + cooldown_s <= self._now
            if not is_first:
                return seen
            kept = {one: at for one, at in said.items() if at + max(_FORGET_S, cooldown_s) > self._now}
            return msgspec.structs.replace(seen, spec=_spec_of(kept | {what: self._now}))

        change(self._engine, _NAME, note)
        return is_first

    def take_back(self, what: str) -> None:
        """Note that it could not be said: the next who asks may try."""

        def forget(seen: Schedule) -> Schedule:
            said = _said_in(seen)
            said.pop(what, None)
            return msgspec.structs.replace(seen, spec=_spec_of(said))

        change(self._engine, _NAME, forget)


def _spec_of(said: Said) -> bytes:
    return _FORMAT + msgspec.msgpack.encode(said)


def _said_in(mark: Schedule) -> Said:
    try:
        return msgspec.msgpack.decode(mark.spec[1:], type=Said)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return {}
