"""What the end of a program means: pure rules, and the words for people."""

from __future__ import annotations

import os

import msgspec

from examples.code_evaluation.sandbox import Ran

#: What a program may use, and what it may use the second time if the first looked innocent.
MEMORY_BYTES, MORE_MEMORY_BYTES = 128 << 20, 512 << 20
TIMEOUT_S = float(os.environ.get("EVALUATION_TIMEOUT_S", "10"))
#: An honest program of a language starts no more processes than this.
HONEST_PROCESSES = {"python": 2, "bash": 8}


class CodeTimeout(Exception):
    """The program ran over its time. Running it again would take as long."""


class LimitPassed(Exception):
    """The program was ended for its memory or its processes; the message is the report."""


class Report(msgspec.Struct, frozen=True):
    """What a program that wanted too much was doing."""

    limit: str
    peak_bytes: int
    allowed_bytes: int
    processes: int
    reasons: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """Return "suspicious" or "innocent"."""
        return "suspicious" if self.reasons else "innocent"

    def __str__(self) -> str:
        """Say it in one line."""
        why = f" ({', '.join(self.reasons)})" if self.reasons else ""
        return (
            f"{self.limit}: peak memory {self.peak_bytes / 1e6:.0f} MB of {self.allowed_bytes / 1e6:.0f} MB, "
            f"{self.processes - 1} children, {self.verdict}{why}"
        )


def report(ran: Ran, *, language: str, allowed_bytes: int) -> Report:
    """Judge a program that passed its memory or its number of processes."""
    honest = HONEST_PROCESSES.get(language, 1)
    reasons = []
    if ran.processes > honest:
        reasons.append(f"{ran.processes} processes where {honest} are usual")
    if allowed_bytes >= MORE_MEMORY_BYTES:
        reasons.append("not content with more")
    return Report(
        limit=ran.ended,
        peak_bytes=ran.peak_bytes,
        allowed_bytes=allowed_bytes,
        processes=ran.processes,
        reasons=tuple(reasons),
    )
