"""The verb `sweep`: late claims are decided here, all other duties in the script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cicely.engines.contract import Silent, Swept
from cicely.engines.redis.caller import Caller
from cicely.engines.redis.claiming import take_back
from cicely.engines.redis.line import Word
from cicely.engines.redis.plans import encode, loss
from cicely.engines.redis.ticking import schedule_in

_LOSS: Final = loss()
_LOSS_PLAN: Final = encode(_LOSS.plan)


def sweep(run: Caller, batch: int, silent: Sequence[Silent], *, keep_ended: int) -> Swept:
    """Carry out at most `batch` steps of each duty."""
    watched: list[Word] = []
    for one in silent:
        watched += (one.session_id, one.beat)
    rescued, *rest = run("sweep", batch, "", _LOSS_PLAN, _LOSS.last_payload, keep_ended, *watched)
    taken_back = 0
    if rest[0] == b"late":
        taken_back = take_back(run, rest[1])
        _, *rest = run("sweep", batch, "1", _LOSS_PLAN, _LOSS.last_payload, keep_ended)
    _, promoted, expired, deleted, has_more, due_in, now, due, newest = rest
    return Swept(
        promoted=promoted,
        rescued=rescued,
        expired=expired,
        deleted=deleted,
        next_due_in_s=float(due_in) if due_in else None,
        more=bool(has_more) or taken_back == batch,
        due=tuple(map(schedule_in, due)),
        now=float(now),
        newest=newest.decode(),
    )
