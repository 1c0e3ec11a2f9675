"""What was accepted is there again after every connection was closed."""

from __future__ import annotations

from cicely.core.job import Enqueued
from cicely.core.outcome import Failed, Succeeded
from cicely.core.states import State
from cicely.engines.contract import Save, Verdict
from cicely.testing.conformance.bench import (
    beat,
    counts,
    demand,
    ids,
    job,
    look,
    session,
    settle,
    start,
    state_of,
    take,
    take_one,
)
from cicely.testing.conformance.harness import Capability, Harness

REQUIRES = frozenset({Capability.DURABLE})


def test_an_accepted_job_is_there_again(harness: Harness) -> None:
    before = harness.engine()
    before.enqueue([job(id="a", body=b"body", tags=("red",)), job(id="b", delay_s=60)])
    kept = before.get(["a", "b"])
    before.close()

    after = harness.engine()

    assert after.get(["a", "b"]) == kept
    assert after.enqueue([job(id="a")]) == [Enqueued("a", fresh=False)]


def test_a_claim_is_still_held(harness: Harness) -> None:
    before = harness.engine()
    claim = start(before, job(id="a"))
    before.close()

    after = harness.engine()

    assert beat(after, claim).lost == ()
    assert take(after) == ()
    assert settle(after, Succeeded(claim.token)) is Verdict.ACCEPTED


def test_a_claim_whose_reply_was_lost_with_the_connection_may_be_repeated(
    harness: Harness,
) -> None:
    before = harness.engine()
    before.join(session(id="s"))
    before.enqueue([job(id="a"), job(id="b")])
    wanted = demand()
    before.claim("s", wanted)
    before.close()

    after = harness.engine()

    assert ids(after.claim("s", wanted)) == ["a"]


def test_an_outcome_whose_reply_was_lost_with_the_connection_is_known(harness: Harness) -> None:
    before = harness.engine()
    outcome = Failed(start(before, job(id="a")).token, "error", retry_in_s=60)
    settle(before, outcome)
    before.close()

    after = harness.engine()

    assert settle(after, outcome) is Verdict.ALREADY
    assert state_of(after) is State.SCHEDULED


def test_a_result_is_there_again(harness: Harness) -> None:
    before = harness.engine()
    settle(before, Succeeded(start(before, job(id="a")).token, b"result"))
    before.close()

    after = harness.engine()

    assert look(after).result == b"result"
    assert counts(after) == {State.SUCCEEDED: 1}


def test_progress_and_checkpoints_are_there_again(harness: Harness) -> None:
    before = harness.engine()
    claim = start(before, job(id="a"))
    before.save("s", [Save(claim.token, progress=b"half", checkpoint=b"state")])
    before.close()

    after = harness.engine()
    settle(after, Failed(claim.token, "error", retry_in_s=0))

    assert look(after).progress == b"half"
    assert take_one(after).checkpoint == b"state"


def test_sessions_and_pauses_are_there_again(harness: Harness) -> None:
    before = harness.engine()
    before.join(session(id="s"))
    before.beat({"s": []}, 1)
    before.enqueue([job(id="a")])
    before.pause("main")
    before.close()

    after = harness.engine()

    [record] = after.sessions()
    assert (record.session.id, record.beat) == ("s", 1)
    assert take(after) == ()


def test_a_retired_session_stays_closed(harness: Harness) -> None:
    before = harness.engine()
    claim = start(before, job(id="a"))
    before.retire("s")
    before.close()

    after = harness.engine()

    assert not beat(after, claim).alive
    assert state_of(after) is State.READY


def test_a_blob_is_there_again(harness: Harness) -> None:
    before = harness.engine()
    before.put_blob("a", "digest", b"data")
    before.close()

    assert harness.engine().get_blob("a", "digest") == b"data"
