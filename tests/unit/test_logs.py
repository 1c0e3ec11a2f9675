"""A job's log lines are shown, with the job's id, unless the app set up logging itself."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from cicely import Cicely, Retry, current
from cicely.observe.log import JobFields, JsonLines, TextLines
from cicely.testing.inline import inline
from cicely.worker.logs import mark_records, show_logs


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


# --- fields on every line -----------------------------------------------------------------------
@pytest.fixture
def lines():
    """Records of any logger, as JSON, for as long as a test lasts."""
    found = []

    class Keep(logging.Handler):
        def emit(self, record):
            found.append(json.loads(self.format(record)))

    handler = Keep()
    handler.setFormatter(JsonLines())
    root, factory, level = logging.getLogger(), logging.getLogRecordFactory(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield found
    root.removeHandler(handler)
    root.setLevel(level)
    logging.setLogRecordFactory(factory)


@pytest.fixture
def app():
    app = Cicely("logged", "memory://")

    @app.task(name="logged.evaluate", log_fields=["eval_id", "model"], retry=Retry(attempts=2, backoff=1))
    def evaluate(eval_id, code, model="tiny"):
        logging.getLogger("any.library").info("loading %s", code)
        current().log.warning("in its midst", extra={"step": 3})
        if current().attempt == 1:
            raise OSError("not now")

    app.evaluate = evaluate
    return app


def test_every_line_of_a_job_has_its_fields(app, lines):
    mark_records()
    with inline(app) as world:
        job = app.evaluate.delay("eval-7", "print(1)")
        world.advance(10)
    logging.getLogger("any.library").info("outside")

    told = [line for line in lines if line["message"] in ("loading print(1)", "in its midst")]
    assert len(told) == 4
    assert {line["task_id"] for line in told} == {job.id}
    assert {(line["eval_id"], line["model"]) for line in told} == {("eval-7", "tiny")}
    assert [line["retry_count"] for line in told] == [0, 0, 1, 1]
    assert told[0]["logger"] == "any.library"
    assert (told[1]["step"], told[1]["level"]) == (3, "warning")
    assert "task_id" not in lines[-1]


def test_a_field_that_is_no_text_is_shown_as_python_writes_it(app, lines):
    mark_records()
    with inline(app) as world:
        app.evaluate.delay({"n": 7}, "c" * 9, model="m" * 900)
        world.run()

    assert (lines[0]["eval_id"], len(lines[0]["model"])) == ("{'n': 7}", 200)


def test_coroutines_have_their_own_fields(lines):
    app = Cicely("logged", "memory://")

    @app.task(log_fields=["eval_id"])
    async def evaluate(eval_id):
        logging.getLogger("any.library").info("in a loop")

    mark_records()
    with inline(app) as world:
        evaluate.delay("a")
        evaluate.delay("b")
        world.run()

    assert [line["eval_id"] for line in lines if line["message"] == "in a loop"] == ["a", "b"]


def test_a_handler_of_the_apps_own_may_name_the_fields(app, lines, capsys):
    handler = logging.StreamHandler()
    handler.addFilter(JobFields("eval_id"))
    handler.setFormatter(logging.Formatter("%(task_id)s|%(eval_id)s|%(retry_count)s|%(message)s"))
    logging.getLogger("any.library").addHandler(handler)
    mark_records()
    try:
        with inline(app) as world:
            job = app.evaluate.delay("eval-7", "x")
            world.run()
        logging.getLogger("any.library").info("outside")
    finally:
        logging.getLogger("any.library").removeHandler(handler)

    assert capsys.readouterr().err.splitlines() == [f"{job.id}|eval-7|0|loading x", "|||outside"]


def test_text_lines_have_them_as_well(app, lines):
    mark_records()
    texts = []

    class Keep(logging.Handler):
        def emit(self, record):
            texts.append(self.format(record))

    handler = Keep()
    handler.setFormatter(TextLines("%(message)s"))
    logging.getLogger("any.library").addHandler(handler)
    try:
        with inline(app) as world:
            job = app.evaluate.delay("eval-7", "x")
            world.advance(10)
    finally:
        logging.getLogger("any.library").removeHandler(handler)

    assert texts == [
        f"loading x [job {job.id} eval_id=eval-7 model=tiny]",
        f"loading x [job {job.id} retry_count=1 eval_id=eval-7 model=tiny]",
    ]


def test_an_exception_and_a_hostile_text_stay_on_one_line():
    try:
        int("a\nb")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "", 1, "line\n\x1b[31m", (), sys.exc_info())

    line = JsonLines().format(record)

    assert "\n" not in line
    assert "\x1b" not in line
    assert "ValueError" in json.loads(line)["exception"]


def test_json_is_written_where_the_environment_says_so(logger, monkeypatch, capsys):
    without_handlers(monkeypatch, logger)
    monkeypatch.setenv("CICELY_LOG", "json")
    factory = logging.getLogRecordFactory()

    show_logs()
    logging.getLogger("cicely.job").info("loaded", extra={"job_id": "eval-7"})
    logging.setLogRecordFactory(factory)

    line = json.loads(capsys.readouterr().err)
    assert (line["message"], line["job_id"]) == ("loaded", "eval-7")


def test_the_apps_own_warnings_are_all_written(logger, monkeypatch, capsys):
    without_handlers(monkeypatch, logger)
    monkeypatch.setenv("CICELY_LOG", "json")
    factory = logging.getLogRecordFactory()

    show_logs()
    for _ in range(3):
        logging.getLogger("shop").warning("again")
    logging.setLogRecordFactory(factory)

    assert capsys.readouterr().err.count("again") == 3
