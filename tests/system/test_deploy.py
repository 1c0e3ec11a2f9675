"""What stands in deploy/ runs: the same commands, under the same limits of memory.

The commands are taken from the files, with paths of this test in place of a container's. Memory is the
proportional set size of each tree of processes, looked at all the while: moving processes to a cgroup needs
rights that a test must not ask for.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest
import yaml

from cicely.core.job import Filter, Kind, NewJob, Tallies
from cicely.core.states import State
from cicely.core.units import duration_s
from cicely.engines.connect import connect
from cicely.engines.contract import Engine
from cicely.errors import EngineError, EngineFull
from cicely.testing.fleet import wait_for
from redis_server import RedisServer, free_port, newer_binary

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
KUBERNETES = {
    (part["kind"], part["metadata"]["name"]): part
    for file in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    for part in yaml.safe_load_all(file.read_text())
}
MIB = 1 << 20
LOOK_S = 0.05
PATIENCE_S = 30.0
FILL_S = 90.0
FILLERS = Filter(task="shop.unknown")


def pod(kind: str, name: str) -> dict[str, Any]:
    spec: dict[str, Any] = KUBERNETES[kind, name]["spec"]["template"]["spec"]
    return spec


def size_of(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(mb|m|Mi)", text).groups()
    return int(number) * MIB if unit else 0


REDIS = COMPOSE["services"]["redis"]
WORKER = COMPOSE["services"]["worker"]
REDIS_CAP, WORKER_CAP = size_of(REDIS["mem_limit"]), size_of(WORKER["mem_limit"])


# --- what the files say -------------------------------------------------------------------------
def test_both_files_run_the_same_commands() -> None:
    redis = pod("StatefulSet", "redis")["containers"][0]
    worker = pod("Deployment", "worker")["containers"][0]

    same_redis = [word.replace("/run/secrets/cicely/", "/run/secrets/") for word in redis["args"]]
    assert same_redis == REDIS["command"]
    assert worker["args"] == WORKER["command"]
    assert redis["image"] == REDIS["image"]


def test_both_files_set_the_same_limits() -> None:
    redis = pod("StatefulSet", "redis")["containers"][0]
    worker = pod("Deployment", "worker")["containers"][0]

    assert size_of(redis["resources"]["limits"]["memory"]) == REDIS_CAP == 300 * MIB
    assert size_of(worker["resources"]["limits"]["memory"]) == WORKER_CAP == 256 * MIB
    assert size_of(option(REDIS["command"], "--maxmemory")) == 256 * MIB
    assert KUBERNETES["Deployment", "worker"]["spec"]["replicas"] == WORKER["deploy"]["replicas"] == 3


def test_the_server_keeps_a_log_and_deletes_no_jobs() -> None:
    assert option(REDIS["command"], "--maxmemory-policy") == "noeviction"
    assert option(REDIS["command"], "--appendonly") == "yes"
    assert KUBERNETES["StatefulSet", "redis"]["spec"]["volumeClaimTemplates"]
    assert "jobs:/data" in REDIS["volumes"]


def test_workers_have_longer_to_stop_than_their_jobs_have_to_end() -> None:
    grace_s = duration_s(option(WORKER["command"], "--grace"), name="grace")

    assert duration_s(WORKER["stop_grace_period"], name="stop") > grace_s
    assert pod("Deployment", "worker")["terminationGracePeriodSeconds"] > grace_s


def test_no_password_stands_in_a_command_or_a_plain_variable() -> None:
    for words in (REDIS["command"], WORKER["command"]):
        assert not [word for word in words if "pass" in word or "redis://" in word]
    assert "environment" not in WORKER
    [variable] = pod("Deployment", "worker")["containers"][0]["env"]
    assert variable["valueFrom"]["secretKeyRef"]["name"] == "cicely"
    assert ("Secret", "cicely") in KUBERNETES


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


# --- what they start ----------------------------------------------------------------------------
class Meter(threading.Thread):
    """Notes the most memory that trees of processes took."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peaks: dict[int, int] = {}
        self._is_over = threading.Event()
        self._pids: list[int] = []

    def watch(self, pid: int) -> None:
        self._pids.append(pid)

    def run(self) -> None:
        while not self._is_over.wait(LOOK_S):
            for pid in self._pids:
                self.peaks[pid] = max(self.peaks.get(pid, 0), tree_bytes(pid))

    def close(self) -> None:
        self._is_over.set()
        self.join()


def tree_bytes(pid: int) -> int:
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for member in [process, *process.children(recursive=True)]:
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{member.pid}/smaps_rollup").read_text()
                total += int(re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)[1]) << 10
    return total


class Site:
    """The services of the compose file on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.password = secrets.token_hex(8)
        self.url = f"redis://:{self.password}@127.0.0.1:{self.port}/0"
        self.meter = Meter()
        self.redis = self._start(self._redis_words(), "redis")
        self.engine: Engine = connect(self.url)
        self.shop = shop_on(self.engine)
        wait_for(self._is_up, within_s=PATIENCE_S, what="an answer of Redis")
        self.workers = [self._start(self._worker_words(), f"worker-{n}") for n in range(3)]
        self.meter.start()

    def _redis_words(self) -> list[str]:
        """The command as it stands, its paths replaced; where to listen comes from its secret file."""
        config = self.folder / "redis.conf"
        config.write_text(f"requirepass {self.password}\nport {self.port}\nbind 127.0.0.1\n")
        data = self.folder / "data"
        data.mkdir()
        paths = {"redis-server": newer_binary(), "/run/secrets/redis.conf": str(config), "/data": str(data)}
        return [paths.get(word, word) for word in REDIS["command"]]

    @staticmethod
    def _worker_words() -> list[str]:
        return [str(Path(sys.executable).parent / "cicely"), *WORKER["command"]]

    def _start(self, words: list[str], name: str) -> subprocess.Popen[bytes]:
        environment = {key: text for key, text in os.environ.items() if not key.startswith("CICELY_")}
        with open(self.folder / f"{name}.log", "wb") as log:
            process = subprocess.Popen(
                words,
                cwd=DEPLOY / "app",
                stdout=log,
                stderr=log,
                env={**environment, "CICELY_URL": self.url, "PYTHONDONTWRITEBYTECODE": "1"},
            )
        self.meter.watch(process.pid)
        return process

    def _is_up(self) -> bool:
        with contextlib.suppress(EngineError):
            self.engine.open()
            return True
        return False

    def said(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def count(self, state: State) -> int:
        return sum(queue.counts.get(state, 0) for queue in self.engine.queues())

    def enqueue(self, task: str, count: int, argument: float) -> list[str]:
        return [job.id for job in getattr(self.shop, task).delay_many([(argument,)] * count)]

    def close(self) -> None:
        self.meter.close()
        self.engine.close()
        # Workers first: they take their leave of the server.
        for processes in (self.workers, [self.redis]):
            for process in processes:
                process.terminate()
            for process in processes:
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def shop_on(engine: Engine) -> ModuleType:
    """Import the app of deploy/, as a producer does, on this engine."""
    spec = spec_from_file_location("shop", DEPLOY / "app" / "shop.py")
    assert spec is not None
    assert spec.loader is not None
    shop = module_from_spec(spec)
    spec.loader.exec_module(shop)
    shop.app.use(engine)
    return shop


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("deploy"))
    yield site
    site.close()


def test_its_jobs_run_within_the_limits_of_memory(site: Site) -> None:
    for _ in range(6):
        site.enqueue("square", 500, 7)

    wait_for(lambda: site.count(State.SUCCEEDED) >= 3_000, within_s=PATIENCE_S, what="3,000 jobs")

    wait_for(lambda: len(site.engine.sessions()) == 9, within_s=PATIENCE_S, what="3 workers of 2 children")
    assert all(site.meter.peaks[worker.pid] <= WORKER_CAP for worker in site.workers), site.meter.peaks
    assert site.meter.peaks[site.redis.pid] <= REDIS_CAP


def test_nothing_that_is_shown_has_the_password(site: Site) -> None:
    trees = [psutil.Process(process.pid) for process in (site.redis, *site.workers)]
    members = [member for tree in trees for member in (tree, *tree.children(recursive=True))]

    shown = " ".join(shlex.join(member.cmdline()) for member in members)
    written = "".join(site.said(name) for name in ("redis", "worker-0", "worker-1", "worker-2"))

    assert len(members) >= 1 + 3 * 3
    assert site.password not in shown
    assert site.password not in written
    assert f"redis://127.0.0.1:{site.port}/0" in site.said("worker-0")


@pytest.mark.timeout(200)
def test_a_full_server_refuses_new_jobs_and_stays_within_its_limit(site: Site) -> None:
    running = site.enqueue("nap", 1, 1.0)

    refusal = wait_for(lambda: refused(site), within_s=FILL_S, what="a refusal")
    wait_for(
        lambda: site.engine.get(running)[0].state is State.SUCCEEDED, within_s=PATIENCE_S, what="the nap"
    )
    # The log is rewritten meanwhile, or was: each time, a fork shares the memory with the server.
    wait_for(lambda: site.meter.peaks[site.redis.pid] > 200 * MIB, within_s=5.0, what="a full server")

    assert "has no memory left under its maxmemory; raise it" in refusal
    assert "\n" not in refusal
    assert site.meter.peaks[site.redis.pid] <= REDIS_CAP, site.meter.peaks
    assert all(worker.poll() is None for worker in site.workers)


def test_it_goes_on_when_there_is_room_again(site: Site) -> None:
    for _ in range(20):
        large = [job.id for job in site.engine.find(FILLERS, limit=500).jobs]
        site.engine.steer("cancel", large)
        site.engine.steer("discard", large)

    done = site.enqueue("square", 100, 3)

    wait_for(
        lambda: all(job.state is State.SUCCEEDED for job in site.engine.get(done)),
        within_s=PATIENCE_S,
        what="100 jobs",
    )


def test_a_worker_that_is_told_to_stop_lets_its_jobs_end(site: Site) -> None:
    naps = site.enqueue("nap", 6, 1.5)
    wait_for(lambda: site.count(State.RUNNING) == 6, within_s=PATIENCE_S, what="six naps that run")

    for worker in site.workers:
        worker.send_signal(signal.SIGTERM)
    codes = [worker.wait(PATIENCE_S) for worker in site.workers]

    assert codes == [0, 0, 0]
    found = [job for job in site.engine.get(naps) if job is not None]
    # One that was claimed and had not begun is handed back, at no cost.
    assert {job.state for job in found} <= {State.SUCCEEDED, State.READY}
    assert [job.tallies for job in found] == [Tallies()] * 6
    assert sum(job.state is State.SUCCEEDED for job in found) >= 3
    assert site.engine.sessions() == []
    assert all(site.meter.peaks[worker.pid] <= WORKER_CAP for worker in site.workers), site.meter.peaks


# --- what must not be copied --------------------------------------------------------------------
def test_allkeys_lru_deletes_queued_jobs_and_is_refused() -> None:
    server = RedisServer(maxmemory="8mb", maxmemory_policy="allkeys-lru")
    try:
        with pytest.raises(EngineError, match="a full server would delete queued jobs"):
            connect(f"{server.url}?durability=none").open()
        careless = connect(f"{server.url}?durability=none&allow_eviction=1")
        accepted = []
        with contextlib.suppress(EngineError):
            for _ in range(200):
                accepted += [job.id for job in careless.enqueue([filler(4_000) for _ in range(20)])]
                time.sleep(0)

        found = 0
        with contextlib.suppress(EngineError):
            found = sum(job is not None for job in careless.get(accepted))

        assert len(accepted) > 1_000
        assert found < len(accepted)
    finally:
        server.destroy()


def refused(site: Site) -> str:
    """Fill the server, and return what a producer is told then; nothing where it found room after all."""
    fill(site.engine)
    try:
        # Not `delay`, which waits for room for a while, and a busy server makes some now and then.
        site.engine.enqueue([filler(10)])
    except EngineFull as refusal:
        return str(refusal)
    return ""


def fill(engine: Engine) -> None:
    """Enqueue jobs that nobody runs until there is no room, large ones first."""
    give_up_at = time.monotonic() + FILL_S
    for count, size_bytes in ((50, 60_000), (1, 60_000), (1, 500)):
        with contextlib.suppress(EngineFull):
            while time.monotonic() < give_up_at:
                engine.enqueue([filler(size_bytes) for _ in range(count)])
                time.sleep(0.02 if count > 1 else 0)


def filler(size_bytes: int) -> NewJob:
    return NewJob(
        id=secrets.token_hex(8),
        task="shop.unknown",
        kind=Kind.SYNC,
        queue="default",
        body=secrets.token_bytes(size_bytes),
    )
