"""A job's log lines are shown, with the job's id, unless the app set up logging itself."""

from __future__ import annotations

import logging

import pytest

from cicely.worker.logs import show_logs


@pytest.fixture
def logger():
    logger = logging.getLogger("cicely")
    level = logger.level
    yield logger
    logger.setLevel(level)


def without_handlers(monkeypatch, logger):
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logging.getLogger(), "handlers", [])


def test_a_jobs_line_names_the_job(logger, monkeypatch, capsys):
    without_handlers(monkeypatch, logger)

    show_logs()
    logging.getLogger("cicely.job").info("loaded", extra={"job_id": "eval-7"})

    assert "INFO cicely.job loaded [job eval-7]" in capsys.readouterr().err


def test_the_same_warning_is_shown_once_in_a_while_and_a_jobs_own_lines_always(logger, monkeypatch, capsys):
    without_handlers(monkeypatch, logger)

    show_logs()
    for _ in range(3):
        logging.getLogger("cicely.worker").warning("the engine does not answer: %s", "gone")
        logging.getLogger("cicely.job").warning("retrying")

    shown = capsys.readouterr().err
    assert (shown.count("the engine does not answer"), shown.count("retrying")) == (1, 3)


def test_an_app_that_set_up_logging_is_left_alone(logger, monkeypatch):
    without_handlers(monkeypatch, logger)
    logging.getLogger().addHandler(logging.NullHandler())

    show_logs()

    assert logger.handlers == []
