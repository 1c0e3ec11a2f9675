"""What is to be graded: every program of the demo, and the job that stands for it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from cicely.cli.demonstration.problems import Problem
from cicely.cli.demonstration.variants import Variant, program, variants_of

_NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9]+")


class Candidate(msgspec.Struct, frozen=True):
    """One program, with the test that it should pass or fail."""

    job_id: str
    task_id: str
    variant: Variant
    source: str
    test: str
    entry_point: str


def candidates(problems: Sequence[Problem]) -> list[Candidate]:
    """Return all variants of all problems. Raises ConfigError for a solution that is none."""
    return [
        _candidate(number, problem, variant)
        for number, problem in enumerate(problems)
        for variant in variants_of(number)
    ]


def _candidate(number: int, problem: Problem, variant: Variant) -> Candidate:
    # The ledger names files by jobs; the number keeps apart what looks alike without its slashes.
    words = _NOT_IN_A_NAME.sub("-", f"{problem.task_id[:80]} {variant}").strip("-").lower()
    return Candidate(
        job_id=f"{number:04}-{words}",
        task_id=problem.task_id,
        variant=variant,
        source=program(problem, variant),
        test=problem.test,
        entry_point=problem.entry_point,
    )
