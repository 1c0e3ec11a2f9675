"""When a failed attempt is followed by another: attempts and error → wait so long, or give up."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence

from cicely.core.units import FOR_EVER_S, Duration, duration_s
from cicely.errors import CicelyError, ConfigError

Backoff = Duration | Sequence[Duration] | Callable[[int], float]
Errors = type[BaseException] | Collection[type[BaseException]]


#: What a wait that doubles ends at, without max_delay: 3,000 years.
_LONGEST_S = FOR_EVER_S / 2


class Timeout(CicelyError):
    """An attempt ran over its `timeout` or `soft_timeout`; name it in `Retry(on=)` to retry."""


class StallTimeout(CicelyError):
    """An attempt showed no progress for its `stall_timeout`."""


class OutOfMemory(CicelyError):
    """An attempt's processes held more than its `memory`."""


#: A limit was set by the task's author: passing it is final unless the author names it.
LIMITS = (Timeout, StallTimeout, OutOfMemory)


class RetryLater(CicelyError):
    """Raised by a job to ask for another attempt; made by `Retry.after` and `task.retry`."""

    def __init__(self, delay_s: float | None = None, cause: BaseException | None = None) -> None:
        super().__init__(f"retry in {delay_s} s" if delay_s is not None else "retry")
        self.delay_s = delay_s
        self.cause = cause


class Retry:
    """A rule for retries.

    `attempts` counts all attempts, the first among them. `backoff` is the wait before the second
    attempt, multiplied by `factor` for each further one; or a list of waits, whose last is
    repeated; or a function of the attempt that failed, counted from 1. `jitter` is the share of
    the wait that is random: 0.5 waits between half and the whole of it. `Retry(attempts=4,
    backoff=60)` waits exactly 60, 120 and 240 s. Waits are seconds, or written as "90s" or "1h".
    Raises ConfigError for what is no wait, no number or out of range.
    """

    __slots__ = ("attempts", "backoff", "factor", "give_up_on", "jitter", "max_delay", "on")

    def __init__(
        self,
        *,
        on: Errors = Exception,
        give_up_on: Errors = (),
        attempts: int = 4,
        backoff: Backoff = 1.0,
        factor: float = 2.0,
        max_delay: Duration | None = None,
        jitter: float = 0.0,
    ) -> None:
        if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
            raise ConfigError(f"Retry(attempts={attempts!r}): a whole number from 1, the first attempt")
        if not _is_number(factor) or not 0 <= factor < math.inf:
            raise ConfigError(f"Retry(factor={factor!r}): a number from 0; 1 waits alike")
        if not _is_number(jitter) or not 0 <= jitter <= 1:
            raise ConfigError(f"Retry(jitter={jitter!r}): a share from 0 to 1")
        self.on = _classes(on, "on")
        self.give_up_on = _classes(give_up_on, "give_up_on")
        self.attempts = attempts
        self.backoff = _waits(backoff)
        self.factor = factor
        self.max_delay = None if max_delay is None else duration_s(max_delay, name="max_delay")
        self.jitter = jitter

    @staticmethod
    def after(seconds: Duration) -> RetryLater:
        """Return an exception to raise in a job: run it again after `seconds`."""
        return RetryLater(duration_s(seconds, name="seconds"))

    def delay_s(self, attempt: int, *, chance: float = 1.0) -> float:
        """Return the wait after the failure of `attempt`; `chance` is a random number in [0, 1).

        Raises what a function given as `backoff` raises, and ConfigError for one that returns no wait.
        """
        wait_s = self._plain_delay_s(attempt)
        if self.max_delay is not None:
            wait_s = min(wait_s, self.max_delay)
        if not 0 <= wait_s < FOR_EVER_S:
            raise ConfigError(f"the backoff after attempt {attempt} is {wait_s}: not a wait in seconds")
        return wait_s * (1 - self.jitter * (1 - chance))

    def _plain_delay_s(self, attempt: int) -> float:
        if callable(self.backoff):
            return float(self.backoff(attempt))
        if isinstance(self.backoff, list):
            return self.backoff[min(attempt, len(self.backoff)) - 1]
        try:
            return min(self.backoff * self.factor ** (attempt - 1), _LONGEST_S)
        except OverflowError:
            return _LONGEST_S


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _waits(backoff: Backoff) -> float | list[float] | Callable[[int], float]:
    if callable(backoff):
        return backoff
    if isinstance(backoff, str) or not isinstance(backoff, Sequence):
        return duration_s(backoff, name="backoff")
    if not backoff:
        raise ConfigError("Retry(backoff=[]): name at least one wait")
    return [duration_s(wait, name="backoff") for wait in backoff]


def _classes(errors: Errors, setting: str) -> tuple[type[BaseException], ...]:
    named = (errors,) if isinstance(errors, type) else errors
    if isinstance(named, str) or not isinstance(named, Collection):
        raise ConfigError(f"Retry({setting}={errors!r}): name a class of errors, or several")
    for name in named:
        if not (isinstance(name, type) and issubclass(name, BaseException)):
            raise ConfigError(f"Retry({setting}={errors!r}): {name!r} is no class of errors")
    return tuple(named)


#: Celery's defaults, for `task.retry()` and `raise Retry.after(...)` in a task without a Retry.
ON_REQUEST = Retry(attempts=4, backoff=180, factor=1)


def retry_in_s(error: BaseException, rule: Retry | None, *, errors: int, chance: float) -> float | None:
    """Return the wait before the next attempt after `error`, or None to give the job up.

    `errors` is the job's tally before this failure.
    """
    if isinstance(error, RetryLater):
        return _on_request(error, rule or ON_REQUEST, errors=errors, chance=chance)
    if rule is None or errors + 1 >= rule.attempts or isinstance(error, rule.give_up_on):
        return None
    if not isinstance(error, rule.on) or _is_unnamed_limit(error, rule.on):
        return None
    return rule.delay_s(errors + 1, chance=chance)


def _on_request(error: RetryLater, rule: Retry, *, errors: int, chance: float) -> float | None:
    if errors + 1 >= rule.attempts:
        return None
    if error.cause is not None and isinstance(error.cause, rule.give_up_on):
        return None
    if error.delay_s is not None:
        return error.delay_s
    return rule.delay_s(errors + 1, chance=chance)


def _is_unnamed_limit(error: BaseException, on: tuple[type[BaseException], ...]) -> bool:
    if not isinstance(error, LIMITS):
        return False
    return not any(issubclass(name, LIMITS) and isinstance(error, name) for name in on)
