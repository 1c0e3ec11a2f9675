"""The verbs of sessions: join, beat, retire, and their list."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from cicely.core.outcome import Outcome
from cicely.engines.contract import Beat, Session, SessionRecord
from cicely.engines.redis.caller import Caller
from cicely.engines.redis.flows import gear_of
from cicely.engines.redis.keys import WILDCARD, quoted, quoted_task, token_in, word_of
from cicely.engines.redis.line import Reply, Word
from cicely.engines.redis.plans import encode, hand_back, told
from cicely.errors import SessionClosed

_facts: Final = msgspec.json.Encoder(order="sorted").encode
_session: Final = msgspec.json.Decoder(Session).decode

_UNKNOWN_CLAIM: Final = encode(hand_back("its claim's reply was lost"))
_RETIRED: Final = encode(hand_back("its session was retired"))


def join(run: Caller, session: Session) -> None:
    """Register a session. Raises SessionClosed."""
    queues = "".join(f"|{quoted(queue)}" for queue in session.queues)
    joined = run(
        "join",
        session.id,
        _facts(session),
        repr(session.lease_s),
        session.worker,
        queues and queues + "|",
        int(any(task.endswith(WILDCARD) for task in session.tasks)),
        gear_of(session),
        int(session.is_supervisor),
        session.name,
        *map(quoted_task, session.tasks),
    )
    if joined == b"closed":
        raise SessionClosed(f"session {session.id} was retired: join under another id")


def beat(run: Caller, held: Mapping[str, Collection[bytes]], number: int) -> list[Beat]:
    """Take a heartbeat of each session; hand back what two of them in a row did not name."""
    words: list[Word] = []
    for session_id, tokens in held.items():
        words += (session_id, len(tokens), *map(word_of, tokens))
    replies = run("beat", _UNKNOWN_CLAIM, number, len(held), *words)
    return [_beat(session_id, reply) for session_id, reply in zip(held, replies, strict=True)]


def _beat(session_id: str, reply: Reply) -> Beat:
    alive, cancelled, lost = reply
    return Beat(session_id, alive=alive == 1, cancelled=_tokens(cancelled), lost=_tokens(lost))


def _tokens(words: list[bytes]) -> tuple[bytes, ...]:
    return tuple(sorted(map(token_in, words)))


def retire(run: Caller, session_id: str, outcomes: Sequence[Outcome]) -> None:
    """Settle, hand back the rest and close the session."""
    run("retire", session_id, _RETIRED, *told(outcomes))


def sessions(run: Caller) -> list[SessionRecord]:
    """Return the open sessions, oldest first."""
    return [session_record(*told) for told in run("sessions")]


def session_record(facts: bytes, beats: bytes, joined_at: bytes, beat_at: bytes, held: int) -> SessionRecord:
    """Return a session of what scripts tell of it."""
    return SessionRecord(
        session=_session(facts),
        beat=int(beats),
        joined_at=float(joined_at),
        beat_at=float(beat_at),
        held=held,
    )
