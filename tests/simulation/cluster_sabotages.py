"""One-line bugs, each as what to patch while a cluster lives."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from unittest import mock

from cicely.engines.contract import Demand, Silent
from cicely.testing.cluster.keeper import TurnByTurn
from cicely.testing.cluster.server import Server
from cicely.upkeep.rescue import Watch
from cicely.worker import keeper
from cicely.worker.board import Board
from cicely.worker.exchange import Exchange


def rescues_without_a_look_at_the_beat():
    """Whoever is on the list is silent, and the engine takes its jobs whatever its beat."""
    rescue = Server._rescue

    def look(self, records, *, now):
        return [Silent(record.session.id, record.beat) for record in records if record.held]

    def careless(self, silent):
        member = self._members.get(silent.session_id)
        return rescue(self, Silent(silent.session_id, member.beat)) if member else 0

    return _both(mock.patch.object(Watch, "look", look), mock.patch.object(Server, "_rescue", careless))


def the_owner_never_gives_up():
    return mock.patch.object(keeper, "OWNER_GIVES_UP", 1000.0)


def a_retired_session_may_claim():
    claim, retire = Server.claim, Server.retire

    def remembering(self, session_id, outcomes=()):
        member = self._members.get(session_id)
        retire(self, session_id, outcomes)
        if member is not None:
            self.__dict__.setdefault("former", {})[session_id] = member

    def lenient(self, session_id, demand: Demand):
        former = self.__dict__.get("former", {}).get(session_id)
        if session_id in self._members or former is None:
            return claim(self, session_id, demand)
        self._members[session_id] = former
        try:
            return claim(self, session_id, demand)
        finally:
            del self._members[session_id]

    return _both(
        mock.patch.object(Server, "claim", lenient), mock.patch.object(Server, "retire", remembering)
    )


def any_token_settles():
    take = Server._take

    def remembering(self, row, session_id, demand):
        take(self, row, session_id, demand)
        self.__dict__.setdefault("owners", {})[row.token] = row

    def lenient(self, token):
        row = self.__dict__.get("owners", {}).get(token)
        return row if row is not None and row.token else None

    return _both(
        mock.patch.object(Server, "_take", remembering), mock.patch.object(Server, "_holding", lenient)
    )


def retiring_hands_nothing_back():
    release = Server._release

    def forgetful(self, row, reason):
        if reason != "its session was retired":
            release(self, row, reason)

    return mock.patch.object(Server, "_release", forgetful)


def receipts_are_forgotten():
    return mock.patch.object(Server, "_receipts", property(lambda _: {}, lambda *_: None), create=True)


def one_beat_hands_back():
    beat_one = Server._beat_one

    def hasty(self, session_id, named, number):
        member = self._members.get(session_id)
        if member is not None and number > member.beat:
            member.beat = number - 1
            member.doubted = frozenset(row.token for row in self._held_by(session_id))
        return beat_one(self, session_id, named, number)

    return mock.patch.object(Server, "_beat_one", hasty)


def every_beat_follows_the_last():
    """However soon it comes: a question between two beats is one, too."""

    def next_number(self, now):
        self._number += 1
        return self._number

    return _both(
        mock.patch.object(TurnByTurn, "_next_number", next_number),
        mock.patch.object(TurnByTurn, "_ask", TurnByTurn._beat),
    )


def a_claim_starts_however_old_it_is():
    begin = Exchange.begin

    def careless(self, pool, token, place):
        self._held[token] = math.inf
        with mock.patch.object(Board, "deadline_at", math.inf):
            return begin(self, pool, token, place)

    return mock.patch.object(Exchange, "begin", careless)


class _both(AbstractContextManager):  # noqa: N801
    def __init__(self, *parts: AbstractContextManager[object]) -> None:
        self._parts = parts

    def __enter__(self) -> None:
        for part in self._parts:
            part.__enter__()

    def __exit__(self, *exc_info: object) -> None:
        for part in reversed(self._parts):
            part.__exit__(*exc_info)
