"""Log lines that say for which job they were written: as text for people, as JSON for programs.

A record that is made while a job runs carries `cicely_job`: `task_id` (the job's id), `task`, `queue`,
`retry_count` and what the task names in `log_fields`. In one attribute, so that nothing that an app logs by
itself is in its way.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any, Final

#: The attribute of a log record.
ATTRIBUTE: Final = "cicely_job"

_LONGEST: Final = 200
#: What every record has; the rest is what somebody gave it as `extra`.
_USUAL: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", ATTRIBUTE}


def fields_of(record: logging.LogRecord) -> Mapping[str, Any]:
    """Return what a record says of the job that wrote it; nothing outside jobs."""
    found = getattr(record, ATTRIBUTE, None)
    return found if isinstance(found, Mapping) else {}


def shown(value: object) -> object:
    """Return a value as a log line has it: numbers and texts as they are, others as Python writes them."""
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


class JsonLines(logging.Formatter):
    """One JSON object per record: at, level, logger, message, the job's fields, what `extra` gave."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        line: dict[str, Any] = {
            "at": round(record.created, 6),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        given = {name: value for name, value in vars(record).items() if name not in _USUAL}
        line |= {name: shown(value) for name, value in given.items() if name not in line}
        line |= fields_of(record)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        return json.dumps(line, default=repr)


class TextLines(logging.Formatter):
    """One line per record; a job's own lines name the job and its fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text."""
        line = super().format(record)
        fields = dict(fields_of(record))
        job_id = fields.pop("task_id", "") or getattr(record, "job_id", "")
        if not job_id:
            return line
        for usual in ("task", "queue"):
            fields.pop(usual, None)
        if not fields.get("retry_count"):
            fields.pop("retry_count", None)
        said = "".join(f" {name}={value}" for name, value in fields.items())
        return f"{line} [job {job_id}{said}]"


class JobFields(logging.Filter):
    """Gives each record the job's fields as attributes, for a handler whose format names them.

    `JobFields("eval_id")` on a handler with the format "%(task_id)s %(eval_id)s %(message)s": outside of
    jobs, and where a task has no such field, they are empty.
    """

    def __init__(self, *names: str) -> None:
        super().__init__()
        self._names = ("task_id", "task", "queue", "retry_count", *names)

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass."""
        fields = fields_of(record)
        for name in self._names:
            if not hasattr(record, name):
                setattr(record, name, fields.get(name, ""))
        return True
