"""Gives an ECS service as many tasks as its jobs want. A schedule runs it every minute.

It grows at once and shrinks by one task a run. Settings come from the environment: CICELY_URL; ECS_CLUSTER
and ECS_SERVICE; LEAST_TASKS and MOST_TASKS; PROCESSES, those of one worker; QUEUES, as "high,batch" (all, if
empty).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import boto3


def main() -> None:
    """Look, decide, and set the number where it is another."""
    cluster, service = os.environ["ECS_CLUSTER"], os.environ["ECS_SERVICE"]
    wanted = wanted_tasks()
    ecs = boto3.client("ecs")
    found = ecs.describe_services(cluster=cluster, services=[service])["services"]
    if not found:
        sys.exit(f"there is no service {service} in the cluster {cluster}")
    present = found[0]["desiredCount"]
    following = max(wanted, present - 1)
    if following != present:
        ecs.update_service(cluster=cluster, service=service, desiredCount=following)
    sys.stdout.write(f"{service}: {present} tasks, {wanted} wanted, {following} from now on\n")


def wanted_tasks() -> int:
    """Ask `cicely scale`; where the engine is out of reach, end and change nothing."""
    least, most, processes = (
        int(os.environ.get(name, default))
        for name, default in (("LEAST_TASKS", "1"), ("MOST_TASKS", "10"), ("PROCESSES", "2"))
    )
    queues = [f"--queue={name}" for name in os.environ.get("QUEUES", "").split(",") if name]
    bounds = f"--processes={least * processes}:{most * processes}"
    command = ["cicely", "scale", "--json", bounds, f"--per-worker={processes}", *queues]
    answer = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if answer.returncode:
        sys.exit(answer.returncode)
    wanted: int = json.loads(answer.stdout)["wanted_workers"]
    return wanted


if __name__ == "__main__":
    main()
