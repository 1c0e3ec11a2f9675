"""Many at once: nothing is lost, nothing is handed out twice, nothing is settled twice."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from cicely.core.outcome import Failed, HandedBack, Succeeded
from cicely.core.states import State
from cicely.engines.contract import Engine, Verdict
from cicely.testing.conformance.bench import counts, demand, job, look, session
from cicely.testing.conformance.harness import Capability, Harness

REQUIRES = frozenset({Capability.THREADS})

CROWD = 6
JOBS = 120
#: More claims than any session of the crowd needs.
MOST_ROUNDS = 2 * JOBS
#: No test here may last longer, whatever the engine does.
PATIENCE_S = 30.0


def test_no_job_is_handed_out_to_two_sessions(harness: Harness) -> None:
    names = _filled(harness)

    taken = _crowd(harness, _take_all)

    assert Counter(name for part in taken for name in part) == Counter(names)


def test_no_job_is_settled_twice(harness: Harness) -> None:
    engine = harness.engine()
    names = _filled(harness)

    settled = _crowd(harness, _run_all)

    assert Counter(name for part in settled for name in part) == Counter(names)
    assert counts(engine) == {State.SUCCEEDED: JOBS}


def test_jobs_that_fail_and_come_back_end_once(harness: Harness) -> None:
    engine = harness.engine()
    names = _filled(harness)

    settled = _crowd(harness, _run_all_with_trouble)

    assert Counter(name for part in settled for name in part) == Counter(names)
    assert counts(engine) == {State.SUCCEEDED: JOBS}
    assert all(look(engine, name).fence == 3 for name in names)


def test_jobs_enqueued_by_many_under_one_id_are_stored_once(harness: Harness) -> None:
    jobs = [job(id=f"j{n}") for n in range(JOBS)]

    answers = _crowd(harness, lambda engine, _: [a.id for a in engine.enqueue(jobs) if a.fresh])

    assert Counter(name for part in answers for name in part) == Counter(new.id for new in jobs)


def test_a_key_fought_over_by_many_has_one_job(harness: Harness) -> None:
    def compete(engine: Engine, session_id: str) -> list[str]:
        answers = engine.enqueue([job(id=f"{session_id}-{n}", unique=f"key{n}") for n in range(20)])
        return [answer.id for answer in answers]

    answers = _crowd(harness, compete)

    assert len({tuple(part) for part in answers}) == 1


def _filled(harness: Harness) -> list[str]:
    """Enqueue many jobs and return their ids."""
    names = [f"j{n}" for n in range(JOBS)]
    harness.engine().enqueue([job(id=name) for name in names])
    return names


def _crowd(harness: Harness, act: Callable[[Engine, str], list[str]]) -> list[list[str]]:
    """Let several threads act at once, each on a connection and in a session of its own."""
    engines = [harness.engine() for _ in range(CROWD)]
    for number, engine in enumerate(engines):
        engine.join(session(id=f"s{number}"))
    with ThreadPoolExecutor(CROWD) as pool:
        acts = [pool.submit(act, engine, f"s{n}") for n, engine in enumerate(engines)]
        return [each.result(PATIENCE_S) for each in acts]


def _take_all(engine: Engine, session_id: str) -> list[str]:
    """Claim until there is nothing left; return the ids of what was claimed."""
    names: list[str] = []
    for _ in range(MOST_ROUNDS):
        claims = engine.claim(session_id, demand(3)).claims
        names.extend(claim.job_id for claim in claims)
        if not claims:
            break
    return names


def _run_all(engine: Engine, session_id: str) -> list[str]:
    """Settle and claim until there is nothing left; return the ids whose outcome was accepted."""
    names: list[str] = []
    claims = engine.claim(session_id, demand(2)).claims
    for _ in range(MOST_ROUNDS):
        if not claims:
            break
        outcomes = [Succeeded(claim.token) for claim in claims]
        settled = engine.settle(session_id, outcomes, demand(2))
        verdicts = zip(claims, settled.verdicts, strict=True)
        names.extend(c.job_id for c, verdict in verdicts if verdict is Verdict.ACCEPTED)
        claims = settled.intake.claims
    return names


def _run_all_with_trouble(engine: Engine, session_id: str) -> list[str]:
    """Fail each first attempt, hand back each second, and let each third succeed, told twice."""
    names: list[str] = []
    patience_ends_at = time.monotonic() + PATIENCE_S
    while time.monotonic() < patience_ends_at:
        claims = engine.claim(session_id, demand(2)).claims
        if not claims and not _is_unfinished(engine):
            return names
        for claim in claims:
            outcome = (
                Failed(claim.token, "error", retry_in_s=0)
                if claim.fence == 1
                else HandedBack(claim.token)
                if claim.fence == 2
                else Succeeded(claim.token)
            )
            first = engine.settle(session_id, [outcome, outcome]).verdicts
            assert first == (Verdict.ACCEPTED, Verdict.ALREADY)
            names.extend([claim.job_id] * isinstance(outcome, Succeeded))
    raise AssertionError("the jobs did not end in time")


def _is_unfinished(engine: Engine) -> bool:
    return any(not state.is_final for state in counts(engine))
