"""What stands in a job's arguments for the results of the jobs before it."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.msgpack import Ext

from cicely.core.canonical import canonical
from cicely.core.codec import Codec
from cicely.core.edge import ParentEnd, Role
from cicely.core.envelope import EXTENDED, seal
from cicely.core.job import Claim, Kind
from cicely.core.outcome import ErrorRecord
from cicely.core.states import State
from cicely.core.values.extensions import INPUTS
from cicely.core.values.inputs import OPEN, Inputs, Part
from cicely.errors import Malformed, NotStorable, ResultGone, UsageError
from cicely.values import Values
from cicely.worker.inputs import with_inputs

VALUES = Values(Codec(), None)


def claim(*ends):
    return Claim(bytes(16), "job", "t", Kind.SYNC, "q", 1, b"", joins=len(ends), parents=ends)


def end(number, role=Role.INPUT, **changes):
    result = VALUES.pack("", number, where="")
    return ParentEnd(f"p{number}", role, **{"state": State.SUCCEEDED, "result": result} | changes)


def given(inputs, *ends):
    [value], _ = with_inputs(claim(*ends), ((inputs,), {}), VALUES)
    return value


@pytest.mark.parametrize(
    "inputs",
    [
        Inputs(0),
        Inputs(3, Part.TRACEBACK),
        Inputs(()),
        Inputs(((range(2), ()), range(2, OPEN))),
    ],
)
def test_it_comes_back_from_bytes_as_it_was(inputs):
    codec = Codec()

    assert codec.decode_call(codec.encode_call((inputs, 1), {"k": inputs}, where="t")) == (
        (inputs, 1),
        {"k": inputs},
    )


@pytest.mark.parametrize(
    "stored",
    [b"", b"\xc1", ["result"], ["what", 0], ["result", [7, 1]], ["result", [0, 1, 2]], ["result", "x"], 5],
)
def test_other_bytes_are_refused(stored):
    data = stored if isinstance(stored, bytes) else msgspec.msgpack.encode(stored)
    body = msgspec.msgpack.encode(Ext(INPUTS, data))

    with pytest.raises(Malformed):
        Codec().decode(seal(body, EXTENDED, None))


def test_one_is_the_result_itself_and_several_are_a_list():
    ends = [end(number) for number in range(4)]

    assert given(Inputs(2), *ends) == 2
    assert given(Inputs((range(2),)), *ends) == [0, 1]
    assert given(Inputs(((range(2),), range(2, OPEN))), *ends) == [[0, 1], 2, 3]


def test_only_edges_that_bring_something_are_counted():
    assert given(Inputs(0), end(7, Role.ORDER), end(8, Role.CALL), end(9)) == 9


def test_a_job_that_returned_nothing_brings_none():
    assert given(Inputs(0), end(1, result=b"")) is None


def test_a_failure_is_the_job_that_began_it_its_error_and_its_traceback():
    error = ErrorRecord("ValueError", "no such row", "Traceback …").encoded()
    ended = end(1, state=State.CANCELLED, result=b"", error=error, cause="origin")

    assert [given(Inputs(0, part), ended) for part in list(Part)[1:]] == [
        "origin",
        "ValueError: no such row",
        "Traceback …",
    ]


def test_an_end_without_an_error_is_named_by_its_state():
    assert given(Inputs(0, Part.ERROR), end(1, state=State.EXPIRED, result=b"")) == "expired"


@pytest.mark.parametrize("changes", [{"is_gone": True}, {"state": State.FAILED}])
def test_a_result_that_is_not_there_is_said_to_be_gone(changes):
    with pytest.raises(ResultGone, match="job p1, whose result this one was to be given"):
        given(Inputs(0), end(1, **changes))


@pytest.mark.parametrize("inputs", [Inputs(1), Inputs((range(2),))])
def test_more_than_there_is_is_refused(inputs):
    with pytest.raises(Malformed):
        given(inputs, end(1))


@pytest.mark.parametrize("ask", [str, bool, "{}".format])
def test_there_is_no_text_and_no_truth_of_it(ask):
    with pytest.raises(UsageError, match="the result of another job"):
        ask(Inputs(0))


def test_no_id_follows_from_it():
    with pytest.raises(NotStorable, match="the result of another job"):
        canonical([Inputs(0)])
