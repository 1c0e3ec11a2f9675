"""Every exception a user may meet, in one tree split by whose move is next.

::

    CicelyError
    ├── UsageError                   the caller's: change the call
    │   ├── ConfigError              a setting, URL, option or name is wrong
    │   │   ├── UnknownQueue         no queue of this name is declared
    │   │   └── UnknownTask          no task of this name is registered
    │   ├── NotStorable              a value cannot be put on the wire (says what and where)
    │   ├── JobNotFound              no job has this id
    │   ├── BacklogFull              too many jobs of a queue or key wait already
    │   ├── WouldDeadlock            get() inside a running job
    │   ├── StepMismatch             a durable step changed between code versions
    │   └── Unsupported              this engine made no such promise
    ├── EngineError                  the operator's: repair the engine or its place
    │   ├── EngineUnavailable        out of reach or busy; the call may be repeated
    │   ├── EngineFull               no space left; the call may be repeated after making room
    │   ├── EngineCorrupt            the stored data cannot be read
    │   ├── SchemaTooNew             a newer Cicely wrote it
    │   ├── SchemaTooOld             an older Cicely wrote it: `cicely migrate`
    │   └── SessionClosed            the session was retired or never joined
    └── JobEnded                     the job's: it has no value to give
        ├── JobFailed                its attempts were given up
        │   └── Malformed            its stored bytes are not what Cicely writes
        ├── JobCancelled             it was cancelled; names the cause
        ├── JobExpired               it did not start before its deadline
        └── ResultGone               it succeeded, and its result was swept

``RateLimited`` is raised by jobs: it is no end, the job runs again.
``SoftTimeout`` and ``Cancelled`` stand beside the tree: they derive from BaseException, so that a
job's ``except Exception`` does not swallow them, and are raised only inside a running job.
"""

from __future__ import annotations

import math
import time
from datetime import UTC


class CicelyError(Exception):
    """The root of every error that Cicely raises on purpose."""


class UsageError(CicelyError):
    """The caller's move: the call cannot succeed as it stands."""


class ConfigError(UsageError):
    """A setting, URL, option or name is wrong; the message names the remedy."""


class UnknownQueue(ConfigError):
    """No queue of this name is declared."""


class UnknownTask(ConfigError):
    """No task of this name is registered."""


class NotStorable(UsageError):
    """A value cannot be put on the wire; the message says which and where in the argument."""


class JobNotFound(UsageError):
    """No job has this id (or it was swept after its retention)."""


class BacklogFull(UsageError):
    """As many jobs of this key wait as its limit's `backlog` allows; send again when some have started."""


class WouldDeadlock(UsageError):
    """A running job waits for another job and might wait for its own slot."""


class StepMismatch(UsageError):
    """The code asks for another step than the one that an earlier attempt recorded in its place."""


class Unsupported(UsageError):
    """The engine does not promise what this call needs."""


class EngineError(CicelyError):
    """The operator's move: the engine answered that it cannot do this."""


class EngineUnavailable(EngineError):
    """The engine is out of reach or busy; the call may be repeated as it is."""


class EngineFull(EngineUnavailable):
    """The engine has no space left; make room, then the call may be repeated."""


class EngineCorrupt(EngineError):
    """The stored data cannot be read."""


class SchemaTooNew(EngineError):
    """The stored data was written by a newer Cicely."""


class SchemaTooOld(EngineError):
    """The stored data was written by an older Cicely: stop the workers and run `cicely migrate`."""


class SessionClosed(EngineError):
    """The session was retired or never joined: it may claim, beat and save no more."""


class JobEnded(CicelyError):
    """The job's move: it ended without a value."""


class JobFailed(JobEnded):
    """The job was given up.

    `type_name`, `message` and `traceback` describe the last attempt's error as text.
    """

    def __init__(self, job_id: str, *, type_name: str = "", message: str = "", traceback: str = "") -> None:
        super().__init__(job_id, type_name, message)
        self.job_id = job_id
        self.type_name = type_name
        self.message = message
        self.traceback = traceback

    def __str__(self) -> str:
        cause = f"{self.type_name}: {self.message}" if self.type_name else self.message
        remote = f"\n\n{self.traceback}" if self.traceback else ""
        return f"job {self.job_id} failed: {cause}{remote}"


class Malformed(JobFailed):
    """The stored bytes are not what Cicely writes: never executed, kept for a person."""

    def __init__(self, reason: str, *, job_id: str = "") -> None:
        super().__init__(job_id, type_name="Malformed", message=reason)

    def __str__(self) -> str:
        # Where bytes are read, nobody knows yet whose they are.
        return super().__str__() if self.job_id else self.message


class JobCancelled(JobEnded):
    """The job was cancelled; the message names the cause."""


class JobExpired(JobEnded):
    """The job did not start before its `expires`."""


class ResultGone(JobEnded):
    """The job succeeded, and its result was swept after its retention."""


class RateLimited(CicelyError):
    """Raised by a job's code: another side refused the call. The job runs again, at no cost.

    Its limits let nobody pass for `retry_after` seconds, then fewer at once; a header's text, be it a
    number or a date, and None, for a second, do as well. `key` names one of them where the job has
    several, or none of its own. Raises ConfigError for what is no time.
    """

    def __init__(self, message: str = "", *, retry_after: float | str | None = None, key: str = "") -> None:
        if not isinstance(key, str):
            raise ConfigError(f"RateLimited(key={key!r}): the key of a limit, as a text")
        self.retry_after = _seconds(retry_after)
        super().__init__(message or f"refused; again in {self.retry_after:g} s")
        self.key = key


def _seconds(retry_after: object) -> float:
    if retry_after is None:
        return 1.0
    try:
        seconds = float(retry_after)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        seconds = _seconds_until(retry_after)
    if not seconds < math.inf:
        raise ConfigError(f"RateLimited(retry_after={retry_after!r}): a number of seconds, a date, or None")
    return max(0.0, seconds)


def _seconds_until(date: object) -> float:
    """Return how long it is until a date as headers have it; NaN for what is none."""
    from email.utils import parsedate_to_datetime

    try:
        at = parsedate_to_datetime(date)  # type: ignore[arg-type]
    except (TypeError, ValueError, AttributeError):
        return math.nan
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - time.time()


class SoftTimeout(BaseException):
    """Raised in a job when its `soft_timeout` has passed; it may clean up and return."""


class Cancelled(BaseException):
    """Raised in a job that was cancelled, or whose claim was lost; it should clean up and end."""
