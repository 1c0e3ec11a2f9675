"""When a claim is to be repeated: a job is due, a valve opens, or more is on its way."""

from __future__ import annotations

from typing import Final

from cicely.core.patience import LOOK_S
from cicely.engines.postgres import intents
from cicely.engines.postgres.openings import Waiting, next_opening
from cicely.engines.postgres.outlook import Outlook
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.transaction import Transaction
from cicely.engines.postgres.wire import Values

_NEXT_DUE: Final = statements("claim")["next_due"]
_NEXT_DUE_GATED: Final = statements("claim")["next_due_gated"]

#: Where no queue is gated, nobody waits at a valve.
_NOBODY: Final = Waiting(None, may_be_open=False, gates=[], has_new=False)


def comes_back_in_s(txn: Transaction, seen: Outlook | None, *, has_found: bool) -> float | None:
    """Return in how many seconds to ask again; `seen` is what still holds of what was seen before.

    Who finds nothing while intents are left takes them over, and comes back at once; not where another
    carries them out just now: that one rings for what it makes ready.
    """
    if seen is None or txn.is_flowing:
        due_at, has_intents, *waiting = _look(txn)
    else:
        due_at, has_intents, waiting = seen.due_at, seen.has_intents, list(_NOBODY)
    if has_intents and (has_found or intents.is_alone(txn)):
        txn.takes_over = not has_found
        return 0.0
    in_s = _seconds_until(txn, due_at, Waiting(*waiting))
    if txn.gates is not None and txn.gates.has_kept_back:
        return LOOK_S if in_s is None else min(in_s, LOOK_S)
    return in_s


def next_due_in_s(txn: Transaction) -> float | None:
    """Return in how many seconds the next job is due, or a valve opens at which jobs wait."""
    due_at, _, *waiting = _look(txn)
    return _seconds_until(txn, due_at, Waiting(*waiting))


def _look(txn: Transaction) -> Values:
    """Look at what a claim may wait for; at valves only where there are gated queues."""
    if txn.is_flowing:
        [row] = txn.rows(_NEXT_DUE_GATED, {"now": txn.now})
        return row
    [row] = txn.rows(_NEXT_DUE)
    return (*row, *_NOBODY)


def _seconds_until(txn: Transaction, due_at: float | None, waiting: Waiting) -> float | None:
    open_at = next_opening(txn, waiting) if any(waiting) else None
    instants = [at for at in (due_at, open_at) if at is not None]
    return max(0.0, min(instants) - txn.now) if instants else None
