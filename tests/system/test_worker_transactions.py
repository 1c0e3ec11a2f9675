"""A transaction of the caller's that stays open while workers run: nobody waits, and its jobs start soon."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from cicely import Cicely
from cicely.testing.postgres_server import PostgresServer

APP = """
from cicely import Cicely

app = Cicely("shop")

@app.task
def ship(order: int) -> int:
    return order
"""
OPEN_S = 3.0
SOON_S = 2.0


@pytest.fixture
def url() -> Iterator[str]:
    server = PostgresServer()
    try:
        server.start()
        yield server.url
    finally:
        server.destroy()


@pytest.fixture
def worker(url: str, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    (tmp_path / "shop.py").write_text(APP)
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "cicely", "worker", "shop:app", "--processes", "1"],
            cwd=tmp_path,
            env={**os.environ, "CICELY_URL": url},
            stdout=log,
            stderr=log,
        )
        yield process
        process.terminate()
        process.wait(20)


def test_jobs_run_beside_it_and_its_own_start_within_two_seconds_of_the_commit(
    url: str, worker: subprocess.Popen[bytes]
) -> None:
    app = Cicely("shop", url)

    @app.task(name="shop.ship")
    def ship(order: int) -> int:
        return order

    assert ship.delay(0).get(timeout=60) == 0
    with psycopg.connect(url) as connection:
        inside = [ship.options(connection=connection).delay(n) for n in range(3)]
        gone_at = time.monotonic() + OPEN_S
        beside = 0
        while time.monotonic() < gone_at:
            began = time.monotonic()
            assert ship.delay(beside).get(timeout=20) == beside
            assert time.monotonic() - began < SOON_S
            beside += 1
        assert app.engine.get([job.id for job in inside]) == [None, None, None]
        connection.commit()
        committed_at = time.time()
    assert [job.get(timeout=20) for job in inside] == [0, 1, 2]
    started = [found.started_at for found in app.engine.get([job.id for job in inside]) if found]
    assert len(started) == 3
    assert max(one for one in started if one) - committed_at < SOON_S
    app.close()
