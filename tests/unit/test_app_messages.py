"""Plain queues: messages that one receiver at a time holds, until it has acknowledged them."""

from __future__ import annotations

import heapq
import itertools
import os
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from cicely import Cicely, ConfigError, NotStorable, QueueBackend
from cicely.core.job import Kind, NewJob
from cicely.testing.clock import VirtualClock
from cicely.testing.conformance import Harness
from cicely.testing.conformance.embedded import MemoryHarness, SqliteHarness
from cicely.testing.conformance.postgres import PostgresHarness
from conformance.redis_harness import RedisHarness


@pytest.fixture(
    params=[MemoryHarness, SqliteHarness, RedisHarness, PostgresHarness], ids=lambda harness: harness.name
)
def home(request) -> Iterator[Harness]:
    home = request.param()
    yield home
    home.destroy()


@pytest.fixture
def clock(home) -> VirtualClock:
    return home.clock


@pytest.fixture
def app(home) -> Iterator[Cicely]:
    app = Cicely("tests")
    app.use(home.engine())
    yield app
    app.close()


def test_a_message_is_received_and_acknowledged(app):
    queue = app.queue("evaluations")
    sent = queue.send({"evaluation_id": 7})

    [message] = queue.receive()

    assert (message.id, message.data, message.attempt) == (sent, {"evaluation_id": 7}, 1)
    assert message.ack()
    assert app.job(sent).state == "succeeded"
    assert queue.receive() == []


def test_a_held_message_goes_to_nobody_else(app):
    queue = app.queue("q")
    queue.send(1)
    [_] = queue.receive()

    assert queue.receive(max=10) == []


def test_what_was_given_back_comes_again_after_its_delay(app, clock):
    queue = app.queue("q")
    queue.send(1)
    [first] = queue.receive()

    assert first.nack(delay="1m")

    assert queue.receive() == []
    clock.at += 60
    [again] = queue.receive()
    assert (again.id, again.attempt) == (first.id, 2)


def test_what_is_not_acknowledged_in_time_comes_again(app, clock):
    queue = app.queue("q")
    queue.send(1)
    [late] = queue.receive(visibility=60)

    clock.at += 61
    [again] = queue.receive()

    assert again.attempt == 2
    assert not late.ack()
    assert not late.nack()
    assert not late.extend()
    assert again.ack()
    assert again.ack(), "the same word said twice is still true"


def test_extend_holds_a_message_for_longer(app, clock):
    queue = app.queue("q")
    queue.send(1)
    [message] = queue.receive(visibility=60)

    clock.at += 50
    assert message.extend(120)
    clock.at += 100

    assert queue.receive() == []
    assert message.ack()


def test_a_message_that_nobody_acknowledges_fails_in_the_end(app):
    queue = app.queue("q", max_receives=3)
    sent = queue.send(1)

    for attempt in (1, 2, 3):
        [message] = queue.receive()
        assert message.attempt == attempt
        message.nack()

    assert queue.receive() == []
    assert app.job(sent).state == "failed"
    assert "given back by its receiver" in app.job(sent).error.message


def test_messages_come_by_priority_and_age(app, clock):
    queue = app.queue("q")
    for data, priority in [("old", 5), ("new", 5), ("urgent", 9)]:
        queue.send(data, priority=priority)
        clock.at += 1

    assert [message.data for message in queue.receive(max=10)] == ["urgent", "old", "new"]


def test_a_delayed_message_is_not_there_yet(app, clock):
    queue = app.queue("q")
    queue.send(1, delay=30)

    assert queue.receive() == []
    clock.at += 30
    assert len(queue.receive()) == 1


def test_a_known_id_is_not_sent_again(app):
    queue = app.queue("q")

    assert queue.send(1, id="known") == queue.send(2, id="known") == "known"
    assert [message.data for message in queue.receive(max=10)] == [1]


def test_receive_waits_for_the_first_message(app):
    queue = app.queue("q")
    threading.Timer(0.05, queue.send, (1,)).start()
    began = time.monotonic()

    [message] = queue.receive(max=10, wait=10)

    assert message.data == 1
    assert time.monotonic() - began < 0.9, "the bell was not heard, only the next look"


def test_receive_with_nothing_there_waits_no_longer_than_asked(app):
    assert app.queue("q").receive(wait=0.02) == []


def test_a_message_that_cannot_be_read_is_parked_and_passed_over(app):
    queue = app.queue("q")
    app.engine.enqueue([NewJob(id="bad", task="", kind=Kind.MESSAGE, queue="q", body=b"\x80\x04pickle")])
    queue.send("good")

    assert [message.data for message in queue.receive(max=10)] == ["good"]
    assert app.job("bad").state == "failed"
    assert app.job("bad").info()["reason"] == "malformed"


def test_what_cannot_be_kept_is_refused_when_it_is_sent(app):
    with pytest.raises(NotStorable, match="a message to q is a lambda"):
        app.queue("q").send(lambda: 1)


@pytest.mark.parametrize(
    "call",
    [
        lambda q: q.receive(max=0),
        lambda q: q.receive(max="3"),
        lambda q: q.receive(max=1.5),
        lambda q: q.receive(visibility=0),
        lambda q: q.send(1, priority=11),
        lambda q: q.send(1, delay=-1),
        lambda q: q.send(1, id=""),
    ],
)
def test_numbers_out_of_range_are_refused(app, call):
    with pytest.raises(ConfigError):
        call(app.queue("q"))


def test_a_queue_is_declared_once_and_refined_later(app):
    app.queue("q", priority=10, ageing="1h")
    app.queue("q", max_receives=3)

    known = app.registry.queue("q")

    assert (known.priority, known.ageing_s, known.max_receives) == (10, 3600.0, 3)
    with pytest.raises(ConfigError, match="from 0 to 10"):
        app.queue("q", priority=11)
    with pytest.raises(ConfigError, match="max_receives=0: a whole number from 1"):
        app.queue("q", max_receives=0)
    with pytest.raises(ConfigError, match="a name without spaces"):
        app.queue("a,b")


def test_closing_the_app_gives_back_what_it_holds(app, clock):
    queue = app.queue("q")
    queue.send(1)
    [held] = queue.receive()

    app.close()

    [again] = queue.receive()
    assert (again.id, again.attempt) == (held.id, 1)


def test_a_receiver_that_was_given_up_joins_anew(app):
    queue = app.queue("q")
    queue.receive()
    [record] = app.engine.sessions()
    app.engine.retire(record.session.id)
    queue.send(1)

    assert len(queue.receive()) == 1


def test_the_exit_of_a_forked_process_hands_back_none_of_its_parents_messages(tmp_path):
    app = Cicely("tests", url=f"sqlite:///{tmp_path}/jobs.db")
    queue = app.queue("q")
    queue.send(1)
    [message] = queue.receive()

    at_exit = app._connection.receiver.close

    pid = os.fork()
    if pid == 0:
        try:
            at_exit()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)

    assert queue.receive() == []
    assert message.ack()
    app.close()


def test_a_forked_process_receives_in_a_session_of_its_own(app):
    queue = app.queue("q")
    queue.send("for the parent")
    [held] = queue.receive()
    read_end, write_end = os.pipe()

    pid = os.fork()
    if pid == 0:
        queue.send("for the child")
        [message] = queue.receive()
        sessions = {record.session.pid for record in app.engine.sessions()}
        fine = message.data == "for the child" and sessions == {os.getpid(), os.getppid()}
        os.write(write_end, b"1" if fine else b"0")
        os._exit(0)

    os.waitpid(pid, 0)
    os.close(write_end)
    assert os.read(read_end, 1) == b"1"
    os.close(read_end)
    assert held.ack()


# --- QueueBackend ---------------------------------------------------------------------------------
def adapter_of_the_docs() -> QueueBackend:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "testing.md"
    source = page.read_text().rpartition("```python\n")[2].partition("```")[0]
    names = {"heapq": heapq, "itertools": itertools, "os": os, "partial": partial, "time": time}
    names["SimpleNamespace"] = SimpleNamespace
    exec(source, names)
    return names["HeapQueue"]()


def work_off(queue: QueueBackend) -> list[tuple[object, int]]:
    """Give every message back once, then acknowledge it."""
    seen = []
    while messages := queue.receive(max=2):
        for message in messages:
            seen.append((message.data, message.attempt))
            assert message.nack() if message.attempt == 1 else message.ack()
    return sorted(seen)


@pytest.mark.parametrize("own", [True, False])
def test_the_same_code_works_off_our_queue_and_the_adapter_of_the_docs(app, own):
    queue: QueueBackend = app.queue("q") if own else adapter_of_the_docs()
    for data in "abc":
        queue.send(data)

    assert work_off(queue) == [(data, attempt) for data in "abc" for attempt in (1, 2)]
