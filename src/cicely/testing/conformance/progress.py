"""A running attempt leaves progress for people and a checkpoint for the next attempt."""

from __future__ import annotations

from cicely.core.outcome import Crashed, Failed, Succeeded
from cicely.engines.contract import Save
from cicely.testing.conformance.bench import (
    job,
    look,
    session,
    settle,
    silent,
    start,
    sweep,
    take_one,
)
from cicely.testing.conformance.harness import Harness


def test_progress_is_shown(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))

    kept = engine.save("s", [Save(claim.token, progress=b"half")])

    assert kept == [True]
    assert look(engine).progress == b"half"


def test_a_checkpoint_reaches_the_next_attempt(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    engine.save("s", [Save(claim.token, checkpoint=b"state")])

    settle(engine, Failed(claim.token, "error", retry_in_s=0))

    assert take_one(engine).checkpoint == b"state"


def test_a_checkpoint_survives_a_crash(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    engine.save("s", [Save(claim.token, checkpoint=b"state")])

    settle(engine, Crashed(claim.token, "killed by signal 9"))

    assert take_one(engine).checkpoint == b"state"


def test_a_checkpoint_survives_a_rescue(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    engine.save("s", [Save(claim.token, checkpoint=b"state")])
    sweep(engine, silent(engine))
    engine.join(session(id="next"))

    assert take_one(engine, by="next").checkpoint == b"state"


def test_the_last_checkpoint_counts(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    engine.save("s", [Save(claim.token, checkpoint=b"1"), Save(claim.token, checkpoint=b"2")])

    settle(engine, Crashed(claim.token, "killed by signal 9"))

    assert take_one(engine).checkpoint == b"2"


def test_an_empty_checkpoint_is_one(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    engine.save("s", [Save(claim.token, checkpoint=b"")])

    settle(engine, Crashed(claim.token, "killed by signal 9"))

    assert take_one(engine).checkpoint == b""


def test_what_a_save_leaves_out_stays(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    engine.save("s", [Save(claim.token, progress=b"half", checkpoint=b"state")])

    engine.save("s", [Save(claim.token, progress=b"most")])
    settle(engine, Crashed(claim.token, "killed by signal 9"))

    assert look(engine).progress == b"most"
    assert take_one(engine).checkpoint == b"state"


def test_a_save_after_the_end_is_refused(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    settle(engine, Succeeded(claim.token))

    assert engine.save("s", [Save(claim.token, progress=b"late")]) == [False]
    assert look(engine).progress == b""


def test_answers_to_saves_come_in_order(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    saves = [Save(b"?" * 16, progress=b"x"), Save(claim.token, progress=b"y")]

    assert engine.save("s", saves) == [False, True]


def test_an_empty_token_saves_nothing(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a")])

    assert engine.save("s", [Save(b"", progress=b"x")]) == [False]
    assert look(engine).progress == b""
