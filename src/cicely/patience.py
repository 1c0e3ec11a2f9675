"""How long a call is repeated while the engine is away."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from cicely.errors import EngineUnavailable

T = TypeVar("T")

#: A caller's patience: longer than the restart of a server, shorter than a person's.
PATIENCE_S: Final = 5.0

_FIRST_WAIT_S: Final = 0.05
_LONGEST_WAIT_S: Final = 1.0


def patiently(call: Callable[[], T], *, for_s: float) -> T:
    """Call until the engine answers; after `for_s` seconds without one, raise EngineUnavailable.

    `call` must be one that may be repeated, as every verb of the engine contract is.
    """
    give_up_at = time.monotonic() + for_s
    wait_s = _FIRST_WAIT_S
    while True:
        try:
            return call()
        except EngineUnavailable:
            if time.monotonic() + wait_s > give_up_at:
                raise
        time.sleep(wait_s)
        wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
