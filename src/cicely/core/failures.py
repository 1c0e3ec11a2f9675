"""What kind of failure an exception is, and so what follows: one table from class to consequence.

::

    rate limited      another side refused the call: again later, at no cost; its limits slow down
    infrastructure    something the job stands on was out of order: again, on another worker if there is one
    out of memory     once more, with `memory_again`, where the task says how much
    bug               the code is wrong: no attempt will help
    poison            dangerous to run again: kept for a person
    error             everything else: the task's Retry decides
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from cicely.core.retry import OutOfMemory, Retry, RetryLater, retry_in_s
from cicely.errors import ConfigError, RateLimited


class Failure(StrEnum):
    """The kinds of failures."""

    RATE_LIMITED = "rate limited"
    INFRASTRUCTURE = "infrastructure"
    OUT_OF_MEMORY = "out of memory"
    BUG = "bug"
    POISON = "poison"
    ERROR = "error"


Table = Mapping[type[BaseException], Failure]

#: What holds where nobody said otherwise.
KNOWN: Final[Table] = {
    RateLimited: Failure.RATE_LIMITED,
    MemoryError: Failure.OUT_OF_MEMORY,
    OutOfMemory: Failure.OUT_OF_MEMORY,
}

#: For infrastructure, in a task without a Retry.
INFRASTRUCTURE_RETRY: Final = Retry(attempts=4, backoff=30)


def table_of(given: object) -> dict[type[BaseException], Failure]:
    """Return what people write as `failures=`, checked. Raises ConfigError."""
    if not isinstance(given, Mapping):
        raise ConfigError(f'failures={given!r}: a dict, as in failures={{ConnectionError: "infrastructure"}}')
    table = {}
    for error, kind in given.items():
        if not isinstance(error, type) or not issubclass(error, BaseException):
            raise ConfigError(f"failures={{{error!r}: ...}}: an exception class stands before the colon")
        try:
            table[error] = Failure(kind)
        except ValueError:
            raise ConfigError(
                f"failures={{{error.__name__}: {kind!r}}}: one of {', '.join(Failure)}"
            ) from None
    return table


def failure_of(error: BaseException, *tables: Table) -> Failure:
    """Return what kind of failure `error` is: by its nearest class in the first table that has one."""
    for table in (*tables, KNOWN):
        for one in type(error).__mro__:
            if one in table:
                return table[one]
    return Failure.ERROR


def again_in_s(
    failure: Failure, error: BaseException, rule: Retry | None, *, errors: int, chance: float
) -> float | None:
    """Return the wait before the next attempt after such a failure, or None to give the job up.

    `errors` is the job's tally before it, `chance` a random number in [0, 1).
    """
    if isinstance(error, RetryLater):
        return retry_in_s(error, rule, errors=errors, chance=chance)
    if failure in (Failure.BUG, Failure.POISON):
        return None
    if failure is not Failure.INFRASTRUCTURE:
        return retry_in_s(error, rule, errors=errors, chance=chance)
    rule = rule or INFRASTRUCTURE_RETRY
    return None if errors + 1 >= rule.attempts else rule.delay_s(errors + 1, chance=chance)
