"""The PostgreSQL engine keeps the engine contract."""

import pytest

from cicely.testing.conformance import Case, cases
from cicely.testing.conformance.postgres import PostgresHarness
from cicely.testing.machine import check_random_verbs


@pytest.mark.parametrize("case", cases(PostgresHarness), ids=str)
def test_the_postgresql_engine_keeps_its_promise(case: Case) -> None:
    case.keep()


def test_random_verbs_are_answered_as_the_memory_engine_answers_them() -> None:
    # Each verb is a few round trips to a server: a third of what the embedded engines are asked.
    check_random_verbs(PostgresHarness, examples=40)
