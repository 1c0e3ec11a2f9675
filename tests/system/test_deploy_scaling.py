"""What scales workers in deploy/: each file says what the others say, and what it runs does what is written.

There is no cluster here: of KEDA, the figure that it reads is looked at; of ECS, the calls that are made.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
import yaml

from cicely.core.job import Kind, NewJob
from cicely.core.units import duration_s
from cicely.engines.connect import connect
from cicely.engines.contract import Engine
from cicely.testing.fleet import wait_for
from redis_server import free_port

DEPLOY = Path(__file__).parents[2] / "deploy"
BIN = Path(sys.executable).parent
PARTS = {
    (part["kind"], part["metadata"]["name"]): part
    for folder in ("kubernetes", "keda")
    for file in sorted((DEPLOY / folder).glob("*.yaml"))
    for part in yaml.safe_load_all(file.read_text())
}
KEDA = PARTS["ScaledObject", "worker"]["spec"]
WORKER = PARTS["Deployment", "worker"]["spec"]["template"]["spec"]
METRICS = PARTS["Deployment", "metrics"]["spec"]["template"]
ECS = {name: json.loads((DEPLOY / "ecs" / f"{name}.json").read_text()) for name in ("worker", "scale")}

#: Stands for boto3: it reads what the service is, and writes down what is made of it.
BOTO3 = """
import json
from pathlib import Path

place = Path(__file__).parent

class Client:
    def describe_services(self, *, cluster, services):
        state = json.loads((place / "service").read_text())
        return {"services": [state] if services == ["worker"] and cluster == "shop" else []}

    def update_service(self, *, cluster, service, desiredCount):
        (place / "service").write_text(json.dumps({"desiredCount": desiredCount}))

def client(name):
    assert name == "ecs"
    return Client()
"""


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def environment_of(container: dict[str, Any]) -> dict[str, str]:
    key = "env" if "env" in container else "environment"
    return {one["name"]: one["value"] for one in container[key] if "value" in one}


# --- what the files say -------------------------------------------------------------------------
def test_keda_scales_the_workers_by_their_processes() -> None:
    [trigger] = KEDA["triggers"]
    assert ("Deployment", KEDA["scaleTargetRef"]["name"]) in PARTS
    assert (trigger["type"], trigger["metricType"]) == ("prometheus", "AverageValue")
    assert trigger["metadata"]["threshold"] == option(WORKER["containers"][0]["args"], "--processes")
    assert KEDA["minReplicaCount"] <= KEDA["fallback"]["replicas"] <= KEDA["maxReplicaCount"]


def test_keda_takes_no_missing_figure_for_no_work() -> None:
    [trigger] = KEDA["triggers"]
    assert trigger["metadata"]["ignoreNullValues"] == "false"
    assert KEDA["fallback"]["failureThreshold"] > 0


def test_pods_go_one_by_one_and_each_has_time_to_end_its_jobs() -> None:
    down = KEDA["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    grace_s = duration_s(option(WORKER["containers"][0]["args"], "--grace"), name="grace")
    assert [(one["type"], one["value"]) for one in down["policies"]] == [("Pods", 1)]
    assert WORKER["terminationGracePeriodSeconds"] > grace_s


def test_prometheus_finds_the_metrics() -> None:
    service = PARTS["Service", "metrics"]
    [container] = METRICS["spec"]["containers"]
    port = environment_of(container)["PORT"]
    assert service["spec"]["selector"] == METRICS["metadata"]["labels"]
    assert service["metadata"]["annotations"]["prometheus.io/port"] == port
    assert [one["containerPort"] for one in container["ports"]] == [int(port)]
    assert container["image"] == WORKER["containers"][0]["image"]


def test_ecs_gives_a_worker_longer_to_stop_than_its_jobs_have_to_end() -> None:
    [worker] = ECS["worker"]["containerDefinitions"]
    assert duration_s(option(worker["command"], "--grace"), name="grace") < worker["stopTimeout"]
    # As long as Fargate waits.
    assert worker["stopTimeout"] <= 120


def test_ecs_scales_the_service_that_its_policy_allows() -> None:
    [scale] = ECS["scale"]["containerDefinitions"]
    [worker] = ECS["worker"]["containerDefinitions"]
    said = environment_of(scale)
    [allowed] = json.loads((DEPLOY / "ecs" / "policy.json").read_text())["Statement"]
    schedule = json.loads((DEPLOY / "ecs" / "schedule.json").read_text())["Target"]
    assert allowed["Resource"].endswith(f":service/{said['ECS_CLUSTER']}/{said['ECS_SERVICE']}")
    assert {action.removeprefix("ecs:") for action in allowed["Action"]} == {
        "DescribeServices",
        "UpdateService",
    }
    assert schedule["Arn"].endswith(f":cluster/{said['ECS_CLUSTER']}")
    family = schedule["EcsParameters"]["TaskDefinitionArn"].rpartition("/")[2]
    assert family == ECS["scale"]["family"]
    assert said["PROCESSES"] == option(worker["command"], "--processes")


def test_no_password_stands_in_a_plain_variable() -> None:
    for definition in ECS.values():
        for container in definition["containerDefinitions"]:
            assert [one["name"] for one in container["secrets"]] == ["CICELY_URL"]
            assert "CICELY_URL" not in environment_of({"environment": [], **container})


def test_a_long_job_protects_its_task_and_elsewhere_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_from_file_location("protection", DEPLOY / "ecs" / "protection.py")
    assert spec is not None
    assert spec.loader is not None
    protection = module_from_spec(spec)
    spec.loader.exec_module(protection)
    protection.protect(90)

    with agent() as (address, asked):
        monkeypatch.setenv("ECS_AGENT_URI", address)
        protection.protect(90)

    assert asked == [("PUT /task-protection/v1/state", {"ProtectionEnabled": True, "ExpiresInMinutes": 90})]


@contextlib.contextmanager
def agent() -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    """Stand in for the agent of ECS, and note what it is asked."""
    asked: list[tuple[str, Any]] = []

    class Agent(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append((f"PUT {self.path}", json.loads(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Agent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()


# --- what they start ----------------------------------------------------------------------------
class Backlog:
    """A file with jobs that nobody runs, and what runs beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder}/jobs.db"
        self.engine: Engine = connect(self.url, role="producer")
        self.engine.open()
        self.number = 0

    def grow(self, count: int, queue: str = "default") -> None:
        jobs = []
        for _ in range(count):
            self.number += 1
            jobs.append(NewJob(id=f"j{self.number}", task="shop.square", kind=Kind.SYNC, queue=queue))
        self.engine.enqueue(jobs)

    def environment(self, **more: str) -> dict[str, str]:
        clean = {key: text for key, text in os.environ.items() if not key.startswith(("CICELY_", "ECS_"))}
        path = f"{BIN}:{clean.get('PATH', '')}"
        return {**clean, "PATH": path, "CICELY_URL": self.url, "PYTHONDONTWRITEBYTECODE": "1", **more}


@pytest.fixture
def backlog(tmp_path: Path) -> Iterator[Backlog]:
    backlog = Backlog(tmp_path)
    yield backlog
    backlog.engine.close()


def test_what_keda_reads_is_what_is_wanted(backlog: Backlog) -> None:
    backlog.grow(95)
    port = free_port()
    [container] = METRICS["spec"]["containers"]
    words = [{"python": sys.executable}.get(word, word) for word in container["command"]]
    environment = backlog.environment(PORT=str(port))
    server = subprocess.Popen(words, cwd=DEPLOY / "app", env=environment)
    try:
        page = wait_for(lambda: fetched(port, "/metrics"), within_s=30, what="the metrics")
        assert fetched(port, "/else") == ""
    finally:
        server.terminate()
    assert server.wait(10) == 0
    figures = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    [trigger] = KEDA["triggers"]
    assert figures[metric_of(trigger["metadata"]["query"])] == "10"
    assert figures['cicely_queue_wanted_processes{queue="default"}'] == "10"


def metric_of(query: str) -> str:
    found = re.fullmatch(r"max\((\w+)\)", query)
    assert found
    return found[1]


def fetched(port: int, path: str) -> str:
    with contextlib.suppress(HTTPError, OSError), urlopen(f"http://127.0.0.1:{port}{path}") as answer:
        text: str = answer.read().decode()
        return text
    return ""


class Service:
    """The ECS service, as the script finds it and leaves it."""

    def __init__(self, backlog: Backlog) -> None:
        self.folder = backlog.folder / "ecs"
        self.folder.mkdir()
        (self.folder / "boto3.py").write_text(BOTO3)
        self.state = self.folder / "service"
        self.tasks = 1
        [container] = ECS["scale"]["containerDefinitions"]
        self.settings = environment_of(container)
        self.backlog = backlog

    @property
    def tasks(self) -> int:
        count: int = json.loads(self.state.read_text())["desiredCount"]
        return count

    @tasks.setter
    def tasks(self, count: int) -> None:
        self.state.write_text(json.dumps({"desiredCount": count}))

    def run(self, **settings: str) -> subprocess.CompletedProcess[str]:
        environment = self.backlog.environment(PYTHONPATH=str(self.folder), **{**self.settings, **settings})
        script = DEPLOY / "ecs" / "scale.py"
        return subprocess.run(
            [sys.executable, script], env=environment, capture_output=True, text=True, timeout=60, check=False
        )


def test_an_ecs_service_grows_at_once_and_shrinks_by_one_task_a_run(backlog: Backlog) -> None:
    service = Service(backlog)
    backlog.grow(95)
    grown = service.run()
    assert (grown.returncode, service.tasks) == (0, 5), grown.stderr
    assert "worker: 1 tasks, 5 wanted, 5 from now on" in grown.stdout

    backlog.engine.steer("cancel", [f"j{number}" for number in range(1, 96)])
    service.run()
    assert service.tasks == 4
    service.run(LEAST_TASKS="4")
    assert service.tasks == 4


def test_an_ecs_service_keeps_to_its_most_and_to_its_queues(backlog: Backlog) -> None:
    service = Service(backlog)
    backlog.grow(900)
    backlog.grow(30, "batch")
    service.run(QUEUES="batch")
    assert service.tasks == 2
    service.run(MOST_TASKS="7")
    assert service.tasks == 7


def test_nothing_is_changed_where_the_engine_is_out_of_reach_or_the_service_is_not_there(
    backlog: Backlog,
) -> None:
    service = Service(backlog)
    service.tasks = 6
    unreachable = service.run(CICELY_URL=f"redis://127.0.0.1:{free_port()}/0")
    unknown = service.run(ECS_SERVICE="wroker")
    assert (unreachable.returncode, service.tasks) == (3, 6), unreachable.stderr
    assert "there is no service wroker in the cluster shop" in unknown.stderr
    assert unknown.returncode == 1
