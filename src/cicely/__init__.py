"""Cicely: a task-processing system that starts with one file on disk."""

from cicely.app import Cicely
from cicely.core.identity import stable
from cicely.core.job import Filter
from cicely.core.retry import OutOfMemory, Retry, StallTimeout, Timeout
from cicely.core.states import State
from cicely.errors import (
    Cancelled,
    CicelyError,
    ConfigError,
    EngineError,
    EngineUnavailable,
    JobCancelled,
    JobEnded,
    JobExpired,
    JobFailed,
    JobNotFound,
    NotStorable,
    ResultGone,
    SoftTimeout,
    UsageError,
    WouldDeadlock,
)
from cicely.handles import Job
from cicely.messages import Message, Queue, QueueBackend
from cicely.tasks import Task
from cicely.worker.context import Context, current

__all__ = [
    "Cancelled",
    "Cicely",
    "CicelyError",
    "ConfigError",
    "Context",
    "EngineError",
    "EngineUnavailable",
    "Filter",
    "Job",
    "JobCancelled",
    "JobEnded",
    "JobExpired",
    "JobFailed",
    "JobNotFound",
    "Message",
    "NotStorable",
    "OutOfMemory",
    "Queue",
    "QueueBackend",
    "ResultGone",
    "Retry",
    "SoftTimeout",
    "StallTimeout",
    "State",
    "Task",
    "Timeout",
    "UsageError",
    "WouldDeadlock",
    "current",
    "stable",
]
