"""The tutorial: every command of it is run, in one shell, and its output compared with what stands there."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from bounds import LENIENCY

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorial" / "README.md"
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_BEGIN, _END = "\x1e", "\x1f"
WITHIN_S = 80.0 * LENIENCY


class Step(msgspec.Struct, frozen=True):
    """A command, and the lines that are shown behind it; `…` in them stands for anything."""

    command: str
    shown: str

    def is_as_shown(self, said: str) -> bool:
        pattern = ".*".join(map(re.escape, self.shown.strip().split("…")))
        return re.fullmatch(pattern, said.strip(), re.DOTALL) is not None


def steps_of(text: str) -> list[Step]:
    return [
        Step(*part.partition("\n")[::2])
        for block in _BLOCK.findall(text)
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    ]


def script_of(steps: list[Step]) -> str:
    lines = ["set -o pipefail"]
    for step in steps:
        lines += [f"printf '{_BEGIN}'", step.command, f"printf '{_END}%s' $?"]
    return "\n".join(lines) + "\n"


def outputs_of(said: str) -> list[tuple[str, str]]:
    """Return what each command wrote, and its exit code."""
    return [tuple(part.split(_END)[:2]) for part in said.split(_BEGIN)[1:]]


def run_in_one_shell(script: str, *, within_s: float) -> str:
    python = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{python}:{os.environ['PATH']}", "EVALUATION_TIMEOUT_S": "5"}
    environment.pop("CICELY_URL", None)
    shell = subprocess.Popen(
        ["bash", "--noprofile", "--norc"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = shell.communicate(script, timeout=within_s)
    except subprocess.TimeoutExpired:
        os.killpg(shell.pid, signal.SIGKILL)
        said, _ = shell.communicate()
        raise AssertionError(f"not within {within_s:g} s: {said}") from None
    return said


@pytest.mark.timeout(WITHIN_S + 20)
def test_every_command_of_the_tutorial_does_what_it_says(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    text = (
        TUTORIAL.read_text().replace("8100", str(port)).replace("/tmp/evaluation", f"{tmp_path}/evaluation")
    )
    # Whoever runs this test has the environment: it says what it would do, and installs nothing.
    steps = steps_of(text.replace("$ make ", "$ make --dry-run "))

    said = run_in_one_shell(script_of(steps), within_s=WITHIN_S)

    outputs = outputs_of(said)
    wrong = [
        f"$ {step.command}\n{wrote}\n({code}, and not as shown:)\n{step.shown}"
        for step, (wrote, code) in zip(steps, outputs, strict=False)
        if not step.is_as_shown(wrote) or code not in ("0", "143")
    ]
    assert not wrong, "\n\n".join(wrong)
    assert len(outputs) == len(steps) > 30
