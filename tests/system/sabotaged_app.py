"""The app of the system tests, in a worker with one line of its own code broken.

CICELY_SABOTAGE names the line. The ledger must report each of them.
"""

from __future__ import annotations

import os

from jobs_app import app

from cicely.core.outcome import Succeeded
from cicely.worker import slots
from cicely.worker.handover import STOP, Handover

__all__ = ["app"]


def leave_claims_in_the_handover() -> None:
    """Start a claim without removing its record, so that it can be taken back as well."""
    take = Handover.take
    seen: set[bytes] = set()

    def look(self: Handover) -> bytes | None:
        token = take(self)
        if token is None or token == STOP or token in seen:
            return token
        seen.add(token)
        self.put([token])
        return token

    Handover.take = look  # type: ignore[method-assign]


def settle_before_running() -> None:
    """Report success first and run the job afterwards."""
    run = slots.Slot._attempt

    def settle_and_run(self, claim, task):
        self._shop.exchange._outbox.add(Succeeded(claim.token))
        self._shop.exchange.flush()
        return run(self, claim, task)

    slots.Slot._attempt = settle_and_run  # type: ignore[method-assign]


SABOTAGES = {
    "hand-over ignored": leave_claims_in_the_handover,
    "settled before it ran": settle_before_running,
}

SABOTAGES[os.environ["CICELY_SABOTAGE"]]()
