"""What an engine finds when it is examined: for `cicely doctor`, apart from the verbs of jobs."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol, runtime_checkable

import msgspec


class CheckVerdict(StrEnum):
    """How a finding is meant: as it should be, worth knowing, or to be mended."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


class Check(msgspec.Struct, frozen=True):
    """One thing that an engine looked at: what it is, what it is like, and what to do about it.

    `name` is short and small ("fsync", "dead rows"); `value` is text with its unit; `remedy` is empty
    where the verdict is `ok`.
    """

    name: str
    value: str
    verdict: CheckVerdict = CheckVerdict.OK
    remedy: str = ""


@runtime_checkable
class Examined(Protocol):
    """An engine that can examine its server. Engines without one need not."""

    def checks(self) -> Sequence[Check]:
        """Look once, bounded in time, and change nothing. Raises EngineUnavailable.

        What the server forbids to read is a check with the value "unknown", not an error.
        """
