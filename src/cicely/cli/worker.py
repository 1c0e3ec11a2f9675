"""`cicely worker APP`: run jobs until told to stop."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import click

from cicely.cli.demand import options_for, working
from cicely.cli.screen import json_option
from cicely.cli.text import safe
from cicely.cli.whereabouts import whereabouts


@click.command()
@working
@click.option("--tell-url", type=int, default=-1, hidden=True)
@json_option
@click.pass_context
def worker(ctx: click.Context, /, *, app: str, tell_url: int, as_json: bool, **given: Any) -> None:
    """Run the jobs of APP: module:app, module, path/to/file.py or file.py:app.

    SIGTERM or Ctrl-C lets running jobs end within --grace, then hands them back at no cost; a
    second one hands them back at once.
    """
    options = options_for(whereabouts(app), given=given)
    from cicely.worker.processes import die_with
    from cicely.worker.supervisor import Supervisor

    write = _write_json if as_json else _write
    _log_to(write)
    told = [tell_url] if tell_url >= 0 else []
    if told:
        die_with(os.getppid())

    def announce(line: str) -> None:
        # Whoever started this worker to watch it needs the engine's URL, with its password.
        while told:
            with os.fdopen(told.pop(), "w") as reader:
                reader.write(supervisor.url)
        write("", line)

    supervisor = Supervisor(options, announce=announce)
    with _children_write_json() if as_json else contextlib.nullcontext():
        ctx.exit(supervisor.run())


@contextlib.contextmanager
def _children_write_json() -> Iterator[None]:
    """Have the log lines of processes that start from here be JSON, as ours are."""
    from cicely.worker.logs import LOG_VARIABLE

    before = os.environ.get(LOG_VARIABLE)
    os.environ[LOG_VARIABLE] = "json"
    try:
        yield
    finally:
        os.environ.pop(LOG_VARIABLE)
        if before is not None:
            os.environ[LOG_VARIABLE] = before


def _write(level: str, line: str) -> None:
    mark = f"{time.strftime('%H:%M:%S')} {level}: " if level else ""
    _write_line(mark + safe(line))


def _write_json(level: str, line: str) -> None:
    _write_line(json.dumps({"at": time.time(), "level": level or "info", "message": line}))


def _write_line(line: str) -> None:
    # Nobody reads any more: that is no reason to stop working.
    with contextlib.suppress(OSError):
        click.echo(line)
        sys.stdout.flush()


_TRACEBACKS = logging.Formatter()


class _Lines(logging.Handler):
    """Writes log records as lines beside the announcements."""

    def __init__(self, write: Any) -> None:
        super().__init__()
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + _TRACEBACKS.formatException(record.exc_info)
        self._write(record.levelname.lower(), message)


def _log_to(write: Any) -> None:
    logger = logging.getLogger("cicely")
    logger.setLevel(logging.INFO)
    logger.handlers = [_Lines(write)]
    logger.propagate = False
