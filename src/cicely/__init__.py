"""Cicely: a task-processing system that starts with one file on disk."""

from cicely.app import Cicely
from cicely.canvas import Canvas, Signature, chain, chord, group
from cicely.core.dead_letter import DeadGroup, DeadLetter
from cicely.core.event import Event
from cicely.core.identity import stable
from cicely.core.job import Filter
from cicely.core.needs import Breaker
from cicely.core.retry import OutOfMemory, Retry, StallTimeout, Timeout
from cicely.core.states import State
from cicely.core.when import cron, every
from cicely.dead_letters import Alert, DeadLetterReport, Revive
from cicely.errors import (
    BacklogFull,
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
    RateLimited,
    ResultGone,
    SoftTimeout,
    UsageError,
    WouldDeadlock,
)
from cicely.flows import Flow, FlowNode, FlowRun
from cicely.groups import GroupJob
from cicely.handles import Job
from cicely.messages import Message, Queue, QueueBackend
from cicely.observe.reasons import Explanation
from cicely.schedules import Schedule
from cicely.tasks import Task
from cicely.worker.context import Context, current
from cicely.workflow.progress import WorkflowProgress
from cicely.workflows import Workflow

__all__ = [
    "Alert",
    "BacklogFull",
    "Breaker",
    "Cancelled",
    "Canvas",
    "Cicely",
    "CicelyError",
    "ConfigError",
    "Context",
    "DeadGroup",
    "DeadLetter",
    "DeadLetterReport",
    "EngineError",
    "EngineUnavailable",
    "Event",
    "Explanation",
    "Filter",
    "Flow",
    "FlowNode",
    "FlowRun",
    "GroupJob",
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
    "RateLimited",
    "ResultGone",
    "Retry",
    "Revive",
    "Schedule",
    "Signature",
    "SoftTimeout",
    "StallTimeout",
    "State",
    "Task",
    "Timeout",
    "UsageError",
    "Workflow",
    "WorkflowProgress",
    "WouldDeadlock",
    "chain",
    "chord",
    "cron",
    "current",
    "every",
    "group",
    "stable",
]
