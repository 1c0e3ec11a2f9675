"""One look around before a claim: what is due, which queues are open, and what stands ready in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from cicely.engines.contract import Ask, Demand
from cicely.engines.postgres.arrays import ints
from cicely.engines.postgres.member import Member
from cicely.engines.postgres.membership import entered
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.transaction import Transaction
from cicely.engines.postgres.wire import Values

_SQL: Final = statements("claim")
_OUTLOOK: Final = _SQL["outlook"]

_LARGEST_CHUNK: Final = 256
#: So many columns are not of heads.
_SEEN: Final = 12


class Outlook(NamedTuple):
    """What was seen. `pairs`: (queue, class, rank, n) of the first plain ready job of each."""

    member: Member
    is_repeated: bool
    due_at: float | None
    has_intents: bool
    #: By name, the number of each queue that is not paused, and whether it has streams.
    queues: dict[str, tuple[int, bool]]
    pairs: list[Values]
    #: The first jobs of the only pair there was, locked; and how many were asked for.
    heads: list[Values]
    most_heads: int


class Look:
    """A look of an open session, which stays open, for a demand of it; asked for with what is asked next."""

    __slots__ = ("_answer", "_most_heads", "_session_id", "_txn")

    def __init__(self, txn: Transaction, session_id: str, demand: Demand) -> None:
        self._txn = txn
        self._session_id = session_id
        self._most_heads = 0
        classes: Sequence[int] = ()
        member = txn.members.get(session_id)
        if member is not None and demand.asks:
            # Most often there is one kind of jobs: they are on the way before anybody knows.
            ask = demand.asks[0]
            self._most_heads = min(max(most_of(ask), 1), _LARGEST_CHUNK)
            classes = member.fitting(txn.names.classes(), ask.kinds)
        asked = {
            "names": list(demand.queues),
            "key": session_id,
            "request": demand.request,
            "classes": ints(classes),
            "limit": self._most_heads,
        }
        self._answer = txn.later(_OUTLOOK, asked)

    def seen(self) -> Outlook:
        """Return what was seen. Raises SessionClosed."""
        txn = self._txn
        [(number, facts, *row), *heads] = txn.heard(self._answer)
        member = entered(txn, self._session_id, None if number is None else (number, facts))
        is_repeated, due_at, has_intents, is_flowing, numbers, gated, *pairs = row[: _SEEN - 2]
        txn.is_flowing = txn.names.is_flowing = is_flowing
        queues = {
            txn.queue_name(number): (number, is_gated)
            for number, is_gated in zip(numbers, gated, strict=True)
        }
        return Outlook(
            member,
            is_repeated,
            due_at,
            has_intents,
            queues,
            list(zip(*pairs, strict=True)),
            [head[_SEEN:] for head in heads],
            self._most_heads,
        )


def most_of(ask: Ask) -> int:
    """Return the largest number of jobs that an ask can take."""
    if not ask.pace:
        return ask.slots
    shortest_s = max(min(ask.pace.values()), 1e-6)
    return ask.slots + min(max(0, ask.limit - ask.slots), int(ask.buffer_s / shortest_s))
