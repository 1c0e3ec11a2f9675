"""The raw loops beside which Cicely is measured do what they say: they lose nothing and check tokens."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.raw.stores import Store, store_at

from cicely.testing.postgres_server import PostgresServer
from redis_server import shared_server


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    server = PostgresServer()
    server.start()
    yield server.url
    server.destroy()


@pytest.fixture(params=["sqlite", "redis", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty raw queue."""
    if request.param == "postgres":
        place = request.getfixturevalue("postgres")
    else:
        place = (
            f"sqlite:///{tmp_path}/raw.db" if request.param == "sqlite" else f"{shared_server().url[:-1]}2"
        )
    store = store_at(place)
    store.create()
    yield store
    store.create()
    store.close()


def test_jobs_come_out_in_their_order_once(store: Store) -> None:
    store.enqueue([b"%d" % n for n in range(1_500)])

    taken = [body for _ in range(3) for _, body in store.exchange([], 600)]

    assert taken == [b"%d" % n for n in range(1_500)]
    assert store.exchange([], 1) == []


def test_what_was_claimed_is_settled_by_its_token(store: Store) -> None:
    store.enqueue([b"a", b"b"])
    (first, _), (second, _) = store.exchange([], 2)

    assert store.exchange([first], 0) == []
    with pytest.raises(RuntimeError, match="a token did not hold"):
        store.exchange([first], 0)
    with pytest.raises(RuntimeError, match="a token did not hold"):
        store.exchange([(second[0], b"another token")], 0)


def test_what_is_scheduled_is_not_taken(store: Store) -> None:
    store.schedule(2_500, body=b"later", first=0)

    assert store.exchange([], 1) == []


def test_a_ring_wakes_who_waits(store: Store) -> None:
    store.listen()
    store.ring()

    store.wait(5.0)
