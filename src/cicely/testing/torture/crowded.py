"""The app of the torture with what holds jobs back: a limit and lanes, units of a worker, an acquired limit.

Whoever passes enters a place of the ledger, which has room for as many as the limit says.
"""

from __future__ import annotations

import os
import time
from typing import Final

from cicely import Context
from cicely.core.resources import Amounts
from cicely.testing.ledger import Ledger
from cicely.testing.torture.app import LEDGER_VARIABLE, REMEMBER, app, noted, queue
from cicely.testing.torture.crowding import AT_THE_GATE

#: Tells workers apart: each has units of its own.
WORKER_VARIABLE: Final = "CICELY_TORTURE_WORKER"

GATE: Final = f"{queue}/gate"
DESK: Final = f"{queue}/desk"
ROOM: Final = {GATE: AT_THE_GATE, DESK: 1}
#: What each worker offers.
OFFERS: Final[Amounts] = {"device": {"0": 1.0, "1": 1.0}}

__all__ = ["app"]

for _key, _most in ROOM.items():
    app.limit(_key, concurrency=_most)


@app.task(queue=queue, remember_ids=REMEMBER, limits=GATE, lane=lambda seconds, user: user)
def passes_the_gate(seconds: float, user: str) -> int:
    """Sleep, under a limit that all workers share."""
    with noted() as context:
        return _nap_in(GATE, context, seconds)


@app.task(queue=queue, remember_ids=REMEMBER)
def sits_at_the_desk(seconds: float) -> int:
    """Sleep, under a limit that is acquired inside the job."""
    with noted() as context, app.limit(DESK).acquire():
        return _nap_in(DESK, context, seconds)


@app.task(queue=queue, remember_ids=REMEMBER, resources={"device": 1})
def uses_a_device(seconds: float) -> int:
    """Sleep, on a unit that the worker has once."""
    with noted() as context:
        [unit] = context.resources["device"]
        return _nap_in(f"{queue}/{os.environ[WORKER_VARIABLE]}/device {unit}", context, seconds)


def _nap_in(place: str, context: Context, seconds: float) -> int:
    ledger = Ledger(os.environ[LEDGER_VARIABLE])
    with ledger.inside(place, ROOM.get(place, 1), attempt=(context.job_id, context.fence)):
        time.sleep(seconds)
        return os.getpid()
