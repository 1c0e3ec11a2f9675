"""Whether both sides made the same of the same jobs. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from cicely.migration.sides import Standing

Pair = tuple[Standing, Standing]


class Margins(msgspec.Struct, frozen=True, kw_only=True):
    """How far the new side may be from the old: |Δ duration| below, and how much more memory."""

    duration_s: float = 0.1
    memory_bytes: int = 0


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What came of comparing: by job, in which words the two sides differ."""

    compared: int
    waiting: tuple[str, ...]
    differing: Mapping[str, tuple[str, ...]]

    @property
    def is_alike(self) -> bool:
        """Whether all jobs that could be compared are alike, and there were some."""
        return self.compared > 0 and not self.differing

    @property
    def exit_code(self) -> int:
        """0 where all are alike, else 1."""
        return 0 if self.is_alike else 1

    def __str__(self) -> str:
        """Say it in one line, and one more for each job that differs."""
        alike = self.compared - len(self.differing)
        head = f"{alike} of {self.compared} jobs alike, {len(self.waiting)} not ended on both sides"
        return "\n".join([head, *(f"  {one}: {'; '.join(how)}" for one, how in self.differing.items())])


def compared(pairs: Mapping[str, Pair], margins: Margins) -> Comparison:
    """Compare what the old and the new side say of each job; those that go on are left for later."""
    done = {job_id: pair for job_id, pair in pairs.items() if all(one.has_ended for one in pair)}
    found = {job_id: tuple(differences(*pair, margins)) for job_id, pair in done.items()}
    return Comparison(
        compared=len(done),
        waiting=tuple(job_id for job_id in pairs if job_id not in done),
        differing={job_id: how for job_id, how in found.items() if how},
    )


def differences(old: Standing, new: Standing, margins: Margins) -> Iterator[str]:
    """Yield in what the new side differs from the old beyond the margins.

    What a side does not say (None) is not compared.
    """
    if old.state != new.state:
        yield f"state {old.state} → {new.state}"
    elif old.output != new.output:
        yield f"output {_cut(old.output)} → {_cut(new.output)}"
    if old.duration_s is not None and new.duration_s is not None:
        slower_s = new.duration_s - old.duration_s
        if abs(slower_s) >= margins.duration_s:
            yield f"duration {old.duration_s:.3f} s → {new.duration_s:.3f} s"
    if old.memory_bytes is not None and new.memory_bytes is not None:
        more_bytes = new.memory_bytes - old.memory_bytes
        if more_bytes > margins.memory_bytes:
            yield f"memory {old.memory_bytes / 1e6:.1f} MB → {new.memory_bytes / 1e6:.1f} MB"


def _cut(value: object, limit: int = 120) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}…"
