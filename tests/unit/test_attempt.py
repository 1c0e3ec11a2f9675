"""Every way an attempt can end becomes an outcome."""

from __future__ import annotations

import pytest

from cicely import Cicely
from cicely.core.codec import Codec
from cicely.core.job import Claim, Kind, Tallies
from cicely.core.outcome import Deferred, ErrorRecord, Failed, Stopped, Succeeded
from cicely.core.retry import Retry
from cicely.core.task import Task, TaskOptions
from cicely.errors import Cancelled, SoftTimeout, UsageError
from cicely.values import Values
from cicely.worker.attempt import run_attempt, unknown
from cicely.worker.context import Context, current

VALUES = Values(Codec(), None)


class Silent:
    """A link that keeps nothing."""

    def touch(self):
        pass

    def progress(self, done, total, message):
        pass

    def checkpoint(self, state):
        pass


NO_OPTIONS = TaskOptions()
FIRST = Tallies()


def run(function, *args, options=NO_OPTIONS, body=None, tallies=FIRST, **kwargs):
    if body is None:
        body = VALUES.pack_call("job", args, kwargs=kwargs, where="test")
    claim = Claim(
        token=bytes(16),
        job_id="job",
        task="test",
        kind=Kind.SYNC,
        queue="default",
        fence=3,
        body=body,
        tallies=tallies,
    )
    context = Context(claim, Silent(), values=VALUES, app=Cicely("attempts", "memory://"))
    return run_attempt(claim, Task("test", function, options), VALUES, context)


def error_of(outcome) -> ErrorRecord:
    return ErrorRecord.decoded(outcome.error)


def test_a_value_that_is_returned_is_the_result():
    outcome = run(lambda a, b: a + b, 1, b=2)

    assert isinstance(outcome, Succeeded)
    assert VALUES.unpack("job", outcome.result) == 3


def test_a_coroutine_function_runs_on_a_loop_of_its_own():
    async def double(number):
        return number * 2

    outcome = run(double, 4)

    assert VALUES.unpack("job", outcome.result) == 8


def test_arguments_become_what_the_hints_say():
    seen = []

    def keep(numbers: set[int], *, name: str = "x"):
        seen.append((numbers, name))

    run(keep, [1, 2, 2], name="y")

    assert seen == [({1, 2}, "y")]


def test_an_argument_that_does_not_fit_its_hint_fails_the_job_with_its_name():
    def wants(number: int):
        raise AssertionError

    outcome = run(wants, "seven", options=TaskOptions(retry=Retry(attempts=9)))

    assert isinstance(outcome, Failed)
    assert outcome.retry_in_s is None
    assert "argument 'number'" in error_of(outcome).message


def test_an_error_fails_the_job_and_its_traceback_begins_in_the_users_code():
    def divide():
        return 1 / 0

    outcome = run(divide)

    assert (outcome.cause, outcome.retry_in_s) == ("error", None)
    record = error_of(outcome)
    assert (record.type_name, record.message) == ("ZeroDivisionError", "division by zero")
    assert "in divide" in record.traceback
    assert "run_attempt" not in record.traceback


@pytest.mark.parametrize(("asked_for", "is_shown"), [(False, False), (True, True)])
def test_locals_are_kept_with_the_traceback_only_where_the_task_asks_for_them(asked_for, is_shown):
    def fail():
        secret = "hunter" + "2"
        raise ValueError(len(secret))

    record = error_of(run(fail, options=TaskOptions(traceback_locals=asked_for)))

    assert ("hunter2" in record.traceback) == is_shown


@pytest.mark.parametrize(("errors", "wait_s"), [(0, 60.0), (1, 120.0), (2, 240.0), (3, None)])
def test_a_retry_waits_longer_each_time_and_then_gives_up(errors, wait_s):
    def fail():
        raise ConnectionError

    options = TaskOptions(retry=Retry(on=ConnectionError, attempts=4, backoff=60))

    assert run(fail, options=options, tallies=Tallies(errors=errors)).retry_in_s == wait_s


def test_a_job_may_ask_for_another_attempt():
    def later():
        raise Retry.after(12)

    assert run(later).retry_in_s == 12


def test_system_exit_is_an_error_of_the_job():
    def leave():
        raise SystemExit(3)

    assert error_of(run(leave)).type_name == "SystemExit"


def test_a_job_that_ends_itself_when_asked_to_is_stopped():
    def obey():
        raise Cancelled

    assert isinstance(run(obey), Stopped)


def test_a_soft_timeout_is_a_timeout():
    def late():
        raise SoftTimeout

    outcome = run(late, options=TaskOptions(retry=Retry(on=Exception)))

    assert (outcome.cause, outcome.retry_in_s) == ("timeout", None)


@pytest.mark.parametrize("body", [b"", b"\x80\x04K\x01.", b"\x09\x00", b"\x01\x00\xc0", b"nonsense"])
def test_bytes_that_no_codec_wrote_are_malformed_and_nothing_is_called(body):
    def never():
        raise AssertionError

    outcome = run(never, body=body)

    assert (outcome.cause, outcome.retry_in_s) == ("malformed", None)
    assert error_of(outcome).message.startswith("it ")


def test_a_result_that_cannot_be_stored_fails_the_job():
    outcome = run(object)

    assert isinstance(outcome, Failed)
    assert "the result of test" in error_of(outcome).message


def test_an_error_whose_text_breaks_is_recorded_all_the_same():
    class Broken(Exception):
        def __str__(self):
            raise ValueError

    def fail():
        raise Broken

    assert "cannot be shown" in error_of(run(fail)).message


def test_lone_surrogates_in_an_error_are_stored_escaped():
    def fail():
        raise ValueError("\ud800")

    assert error_of(run(fail)).message == "\\ud800"


def test_the_running_job_knows_itself():
    def look():
        context = current()
        return [context.job_id, context.attempt, context.fence, context.restored]

    outcome = run(look, tallies=Tallies(errors=1))

    assert VALUES.unpack("job", outcome.result) == ["job", 2, 3, None]
    with pytest.raises(UsageError, match="no job runs here"):
        current()


def test_a_function_that_cannot_be_found_is_tried_again_later_at_no_cost():
    claim = Claim(
        token=bytes(16), job_id="j", task="gone.f", kind=Kind.SYNC, queue="default", fence=1, body=b""
    )

    assert isinstance(unknown(claim), Deferred)
