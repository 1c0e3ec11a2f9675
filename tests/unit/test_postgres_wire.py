"""A call's statements reach the server in few messages: each that is waited for costs two wake-ups."""

import os
from collections.abc import Iterator
from itertools import pairwise

import psycopg
import pytest

from cicely.core.edge import Edge
from cicely.core.outcome import Succeeded
from cicely.engines.postgres.bounded import BoundedConnection
from cicely.engines.postgres.engine import PostgresEngine
from cicely.engines.postgres.wire import OneByOne, Pipeline, Stale, Wired
from cicely.testing.conformance.bench import demand, job, session
from cicely.testing.postgres_server import PostgresServer


@pytest.fixture
def link(server: PostgresServer) -> Iterator[Wired]:
    link = BoundedConnection.connect(server.url, autocommit=True, prepare_threshold=None)
    link.execute("CREATE TEMPORARY TABLE word (text text)")
    yield link
    link.close()


@pytest.fixture
def engine(server: PostgresServer) -> Iterator[PostgresEngine]:
    engine = PostgresEngine(f"{server.url}?schema=s{os.urandom(6).hex()}")
    engine.open()
    engine.join(session(id="s"))
    yield engine
    engine.close()


class Messages:
    """Counts the messages that are waited for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        original = Pipeline._exchanged

        def counted(wire, connection, waiting):
            self.count += 1
            return original(wire, connection, waiting)

        monkeypatch.setattr(Pipeline, "_exchanged", counted)

    def of(self, call):
        """Return what a call answers, and how many messages it took."""
        before = self.count
        return call(), self.count - before


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> Messages:
    return Messages(monkeypatch)


def words(link: Wired) -> list[str]:
    return [word for (word,) in link.execute("SELECT text FROM word").fetchall()]


@pytest.mark.parametrize("kind", [Pipeline, OneByOne])
def test_statements_are_answered_in_their_order(link, kind):
    wire = kind(link)
    wire.add("INSERT INTO word VALUES (%s)", ("a 100%%",))
    first = wire.add("SELECT text, %(one)s::int, %(one)s::int + 1 FROM word", {"one": 1})
    wire.add("DELETE FROM word")
    second = wire.add("SELECT text FROM word")
    wire.send()
    assert (first.rows, second.rows) == ([("a 100%%", 1, 2)], [])


def test_nothing_is_sent_before_it_is_asked_for(link):
    wire = Pipeline(link)
    wire.add("INSERT INTO word VALUES ('a')")
    assert words(link) == []
    wire.forget()
    wire.send()
    assert words(link) == []


def test_what_fails_takes_all_of_its_message_along(link):
    wire = Pipeline(link)
    wire.add("INSERT INTO word VALUES ('a')")
    wire.add("SELECT 1 / 0")
    wire.add("INSERT INTO word VALUES ('b')")
    with pytest.raises(psycopg.errors.DivisionByZero):
        wire.send()
    assert words(link) == []


def test_what_fails_behind_a_commit_leaves_the_commit_alone(link):
    wire = Pipeline(link)
    wire.begin(["BEGIN", "SELECT 1"])
    wire.add("INSERT INTO word VALUES ('a')")
    wire.add("COMMIT")
    wire.part()
    hint = wire.add("SELECT 1 / 0")
    wire.send()
    assert words(link) == ["a"]
    assert hint.rows == []
    assert not hint.is_there


def test_a_statement_that_failed_as_it_was_prepared_may_be_used_again(link):
    wire = Pipeline(link)
    for divisor in (1, 0, 1, 0, 1):
        answer = wire.add("SELECT 6 / %(divisor)s::int", {"divisor": divisor})
        if divisor:
            wire.send()
            assert answer.rows == [(6,)]
        else:
            with pytest.raises(psycopg.errors.DivisionByZero):
                wire.send()


def test_a_connection_that_broke_while_it_was_idle_is_told_from_one_that_broke_later(server, link):
    wire = Pipeline(link)
    wire.begin(["BEGIN", "SELECT 1"])
    wire.send()
    with psycopg.connect(server.url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", (link.info.backend_pid,))
    wire.add("SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        wire.send()
    again = Pipeline(link)
    again.start()
    again.add("SELECT 1")
    with pytest.raises(Stale):
        again.send()


def test_a_plain_job_takes_one_message_to_store_and_two_each_to_claim_and_to_settle(engine, messages):
    def life(name):
        counts = [messages.of(lambda: engine.enqueue([job(name)]))[1]]
        intake, count = messages.of(lambda: engine.claim("s", demand(1)))
        counts.append(count)
        settled, count = messages.of(
            lambda: engine.settle("s", [Succeeded(intake.claims[0].token, b"1")], demand(1))
        )
        counts.append(count)
        [found], count = messages.of(lambda: engine.get([name]))
        assert found.state == "succeeded"
        assert settled.verdicts == ("accepted",)
        return [*counts, count]

    life("first")
    assert life("second") == [1, 2, 2, 1]


def test_a_step_of_a_chain_takes_three_messages(engine, messages):
    names = [f"j{n}" for n in range(6)]
    edges = [Edge(before, after) for before, after in pairwise(names)]
    engine.enqueue([job(name) for name in names], edges)
    [claim] = engine.claim("s", demand(1)).claims
    counts = []
    for _ in names[1:]:
        outcome = Succeeded(claim.token)
        settled, count = messages.of(lambda outcome=outcome: engine.settle("s", [outcome], demand(1)))
        counts.append(count)
        [claim] = settled.intake.claims
    assert counts[-1] == 3
    assert [parent.id for parent in claim.parents] == [names[-2]]
