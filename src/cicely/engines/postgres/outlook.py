"""One look around before a claim: what is due, which queues are open, and what stands ready in them."""

from __future__ import annotations

from typing import Final, NamedTuple

from cicely.engines.contract import Demand
from cicely.engines.postgres.member import Member
from cicely.engines.postgres.membership import entered
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.transaction import Transaction, Values

_OUTLOOK: Final = statements("claim")["outlook"]


class Outlook(NamedTuple):
    """What was seen. `pairs`: (queue, class, rank, n) of the first plain ready job of each."""

    member: Member
    is_repeated: bool
    due_at: float | None
    has_intents: bool
    #: By name, the number of each queue that is not paused, and whether it has streams.
    queues: dict[str, tuple[int, bool]]
    pairs: list[Values]


def look(txn: Transaction, session_id: str, demand: Demand) -> Outlook:
    """Look what there is for a demand of an open session, which stays open. Raises SessionClosed."""
    asked = {"names": list(demand.queues), "key": session_id, "request": demand.request}
    [(number, facts, *row)] = txn.rows(_OUTLOOK, asked)
    member = entered(txn, session_id, None if number is None else (number, facts))
    is_repeated, due_at, has_intents, is_flowing, numbers, gated, *pairs = row
    txn.is_flowing = txn.names.is_flowing = is_flowing
    queues = {
        txn.queue_name(number): (number, is_gated) for number, is_gated in zip(numbers, gated, strict=True)
    }
    return Outlook(member, is_repeated, due_at, has_intents, queues, list(zip(*pairs, strict=True)))
