"""The jobs of the simulation: what is asked for, and how their attempts go."""

from __future__ import annotations

from random import Random
from typing import Final

import msgspec

from cicely.core.job import Kind, NewJob
from cicely.core.retry import Retry, Timeout, retry_in_s

QUEUES: Final = ("main", "side")
TASKS: Final = frozenset({"short", "long", "fails", "crashes", "hangs"})
KEEP_S: Final = 7_200.0
#: Longer than clocks step forwards in all: an enqueue that is repeated finds its job, deleted or not.
REMEMBER_S: Final = 365 * 86_400.0


class Boom(Exception):
    """What a failing job raises."""


class Plan(msgspec.Struct, frozen=True):
    """How the attempts of one job go: each runs for `runs_s`, the first `bad` end badly.

    `ends`: "fails" by an error, "crashes" its process, "hangs" over its timeout.
    """

    runs_s: float
    ends: str = ""
    bad: int = 0
    timeout_s: float = 0.0
    retry: Retry | None = None

    def retry_s(self, errors: int, *, chance: float) -> float | None:
        """Return the wait after a failure, by the product's rule; `errors` is the tally before it."""
        return retry_in_s(Boom(), self.retry, errors=errors, chance=chance)

    def timeout_retry_s(self, errors: int) -> float | None:
        """Return the wait after a passed timeout."""
        return retry_in_s(Timeout(), self.retry, errors=errors, chance=1.0)


def make(number: int, random: Random) -> tuple[NewJob, Plan]:
    """Return another job and how it goes."""
    kind = random.choices(sorted(TASKS), weights=[2, 4, 2, 2, 10])[0]
    plan = _plan(kind, random)
    explicit = random.random() < 0.3  # noqa: PLR2004
    job = NewJob(
        id=f"named-{number}" if explicit else f"j{number}",
        task=kind,
        kind=Kind.ISOLATED if random.random() < 0.1 else Kind.SYNC,  # noqa: PLR2004
        queue=random.choice(QUEUES),
        priority=random.randrange(10),
        delay_s=random.choice((0.0, 0.0, 0.0, 600.0)),
        expires_s=random.choice((None, None, None, 14_400.0)),
        unique=random.choice(("", "", "", f"key-{number % 3}")),
        keep_s=KEEP_S,
        keep_failed_s=KEEP_S,
        remember_s=REMEMBER_S,
    )
    return job, plan


def _plan(kind: str, random: Random) -> Plan:
    retry = Retry(attempts=3, backoff=120.0, jitter=0.5, on=(Boom, Timeout))
    match kind:
        case "long":
            return Plan(random.uniform(3_600, 4 * 3_600))
        case "fails":
            return Plan(random.uniform(1, 300), "fails", random.randrange(1, 5), retry=retry)
        case "crashes":
            return Plan(random.uniform(1, 300), "crashes", random.randrange(1, 5))
        case "hangs":
            return Plan(random.uniform(1, 300), "hangs", random.randrange(1, 3), timeout_s=400.0, retry=retry)
        case _:
            return Plan(random.choice((0.005, 5.0, 60.0, random.uniform(60, 600))))
