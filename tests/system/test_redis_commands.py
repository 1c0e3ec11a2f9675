"""Commands on a Redis server that cannot be used: one clear sentence, an exit code, and no password."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from cicely.engines.connect import connect
from cicely.engines.redis.connections import Connections
from cicely.engines.redis.place import place_of
from cicely.errors import EngineError
from cicely.testing.fleet import wait_for
from redis_server import RedisServer, free_port, newer_binary

CICELY = str(Path(sys.executable).parent / "cicely")
SHOP = Path(__file__).parents[2] / "deploy" / "app"
SECRET = "hunter2-and-more"
PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A server with a log and a user `ann`."""
    server = RedisServer(program=newer_binary(), appendonly="yes", appendfsync="everysec")
    server.tell("ACL", "SETUSER", "ann", "on", f">{SECRET}", "~*", "&*", "+@all")
    yield server
    server.destroy()


@pytest.fixture(scope="module")
def replica(server: RedisServer) -> Iterator[RedisServer]:
    replica = RedisServer(program=newer_binary(), appendonly="yes", replicaof=f"127.0.0.1 {server.port}")
    replica.tell("ACL", "SETUSER", "ann", "on", f">{SECRET}", "~*", "&*", "+@all")
    yield replica
    replica.destroy()


def environment(url: str) -> dict[str, str]:
    return {**os.environ, "CICELY_URL": url, "PYTHONDONTWRITEBYTECODE": "1"}


def cicely(url: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CICELY, *words],
        cwd=SHOP,
        env=environment(url),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


WRONG: dict[str, tuple[Callable[[RedisServer, RedisServer], str], str]] = {
    "wrong password": (
        lambda server, _: f"redis://ann:{SECRET}-wrong@127.0.0.1:{server.port}/0",
        "refuses this user and password; correct them in the URL",
    ),
    "unreachable": (
        lambda *_: f"redis://ann:{SECRET}@127.0.0.1:{free_port()}/0",
        "(Connection refused); the call may be repeated",
    ),
    "wrong database": (
        lambda server, _: f"redis://ann:{SECRET}@127.0.0.1:{server.port}/99",
        "has no such database",
    ),
    "read-only replica": (
        lambda _, replica: f"redis://ann:{SECRET}@127.0.0.1:{replica.port}/0",
        "name the master in the URL",
    ),
}


@pytest.mark.parametrize("words", [("queues",), ("worker", "shop:app")], ids=" ".join)
@pytest.mark.parametrize("case", WRONG)
def test_a_server_that_cannot_be_used_is_one_sentence(
    server: RedisServer, replica: RedisServer, case: str, words: tuple[str, ...]
) -> None:
    url_of, sentence = WRONG[case]

    ended = cicely(url_of(server, replica), *words)

    assert ended.returncode != 0
    assert sentence in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
    assert "Traceback" not in ended.stdout + ended.stderr
    assert SECRET not in ended.stdout + ended.stderr


def test_doctor_shows_what_it_looked_at_and_no_password(server: RedisServer) -> None:
    url = f"redis://ann:{SECRET}@127.0.0.1:{server.port}/0"

    text, data = cicely(url, "doctor"), cicely(url, "doctor", "--json")

    for name in ("append-only file", "maxmemory-policy", "evicted keys", "round trip", "replication"):
        assert name in text.stdout
        assert name in data.stdout
    assert SECRET not in text.stdout + text.stderr + data.stdout + data.stderr


@pytest.mark.timeout(90)
def test_a_worker_waits_out_an_outage_and_idles_quietly(tmp_path: Path) -> None:
    server = RedisServer(appendonly="yes", appendfsync="everysec", requirepass=SECRET)
    words = [CICELY, "worker", "shop:app", "--processes", "4", "--lease", "30s"]
    log = tmp_path / "log"
    url = f"redis://:{SECRET}@127.0.0.1:{server.port}/0"
    with log.open("wb") as output:
        worker = subprocess.Popen(words, cwd=SHOP, env=environment(url), stdout=output, stderr=output)
    try:
        wait_for(lambda: sessions(url) >= 5, within_s=PATIENCE_S, what="four children and their supervisor")
        server.kill()
        time.sleep(2.0)
        server.start()
        wait_for(lambda: scripts_run(url) > 0, within_s=PATIENCE_S, what="a worker that is back")
        time.sleep(3.0)

        before, began_at = scripts_run(url), time.monotonic()
        time.sleep(5.0)
        per_s = (scripts_run(url) - before) / (time.monotonic() - began_at)
        family = [psutil.Process(worker.pid), *psutil.Process(worker.pid).children(recursive=True)]
        shown = " ".join(word for member in family for word in member.cmdline())
    finally:
        worker.terminate()
        code = worker.wait(PATIENCE_S)
        server.destroy()

    assert code == 0
    assert per_s <= 4.0, f"{per_s:.1f} calls a second for four idle children"
    assert SECRET not in shown
    assert SECRET not in log.read_text()


def sessions(url: str) -> int:
    engine = connect(url)
    try:
        return len(engine.sessions())
    finally:
        engine.close()


def scripts_run(url: str) -> int:
    """Return how many scripts the server was asked to run."""
    connections = Connections(place_of(url))
    try:
        info = connections.ask("INFO", "commandstats").decode()
    except EngineError:
        return 0
    finally:
        connections.close()
    lines = [line for line in info.splitlines() if line.startswith("cmdstat_evalsha:")]
    return int(lines[0].split("calls=")[1].split(",")[0]) if lines else 0
