"""What many of these tests begin with: a PostgreSQL server of their module, and a clock of their own."""

from collections.abc import Iterator

import pytest

from cicely.testing.clock import VirtualClock
from cicely.testing.postgres_server import PostgresServer


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.destroy()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()
