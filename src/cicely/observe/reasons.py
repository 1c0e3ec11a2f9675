"""What an explanation is made of: the reasons there are, and what is said of one."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from cicely.observe.words import Detail

Details = dict[str, Detail]


class Reason(StrEnum):
    """What holds a job back, or that nothing does."""

    ENDED = "ended"
    RUNNING = "running"
    DUE = "due later"
    UNPUBLISHED = "unpublished"
    JOBS = "waits for jobs"
    EVENT = "waits for an event"
    PAUSED = "paused"
    NO_WORKER = "no worker for its queue"
    NO_TASK = "no worker for its task"
    NOT_ACCEPTED = "not accepted"
    TOO_LARGE = "too large"
    REFUSED = "refused"
    LIMIT = "limit"
    RATE = "rate"
    BREAKER = "breaker"
    PROBE = "probe"
    RESOURCE = "resource"
    KEPT = "kept"
    LANE = "lane"
    BUSY = "busy"
    STARTING = "starting"


class Explanation(msgspec.Struct, frozen=True):
    """Why a job does not run: a word, a sentence, its numbers as JSON has them, and when it may lift.

    `until` is None where nobody can tell.
    """

    reason: Reason
    text: str
    details: Mapping[str, Detail] = {}
    until: float | None = None
