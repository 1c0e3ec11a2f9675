"""`cicely demo` on a few problems: real workers, real kills."""

import json
import subprocess
import sys

import psutil
import pytest

from cicely.cli.demonstration.problems import Problem

PROBLEMS = [
    Problem(
        f"Own/{number}",
        f"def times_{number}(x):\n",
        f"times_{number}",
        f"    return {number} * x\n",
        f"def check(candidate):\n    print('noise')\n    assert candidate(2) == {2 * number}\n",
    )
    for number in range(4)
]


def write(file, problems):
    lines = [json.dumps({name: getattr(one, name) for name in one.__struct_fields__}) for one in problems]
    file.write_text("\n".join(lines))
    return file


def demo(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "cicely", "demo", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def processes_that_know(folder):
    known = []
    for process in psutil.process_iter():
        try:
            if str(folder) in process.environ().get("CICELY_URL", ""):
                known.append(process)
        except psutil.Error:
            continue
    return known


@pytest.fixture
def small(tmp_path):
    return write(tmp_path / "small.jsonl", PROBLEMS)


def test_a_small_demo_ends_with_every_program_where_it_belongs(tmp_path, small):
    stage = tmp_path / "stage"

    ran = demo("--problems", small, "--keep", stage, "--json")

    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    assert report["ok"], report
    assert report["outcomes"] == {
        "passed": {"right": 4},
        "wrong answer": {"off by one": 4},
        "timeout": {"endless loop": 4},
        "out of memory": {"memory hog": 2},
        "exited with 3, 3 times": {"os._exit": 2},
    }
    assert report["right_passed"] == report["right"] == 4
    assert report["kill"]["done"] >= 8
    assert report["judgement"]["lost"] == report["judgement"]["overlapped"] == 0
    assert report["attempts"] == 16 + 2 * 2 + report["re_runs_after_kill"]
    assert (stage / "demo.db").is_file()
    assert processes_that_know(stage) == []


def test_a_right_solution_that_fails_is_a_fault_and_an_exit_code(tmp_path):
    wrong = PROBLEMS[1].__class__(
        "Own/0", "def f():\n", "f", "    return 1\n", "def check(candidate):\n    assert candidate() == 3\n"
    )

    ran = demo("--problems", write(tmp_path / "wrong.jsonl", [wrong]), "--keep", tmp_path / "stage")

    assert ran.returncode == 1
    assert "not as it should be: 1 of 1 right solutions did not pass" in ran.stderr
    assert "right solutions passed 0/1 · lost 0 · overlapped 0" in ran.stdout
    assert "Traceback" not in ran.stderr


def test_a_folder_with_something_in_it_is_refused(tmp_path, small):
    ran = demo("--problems", small, "--keep", tmp_path)

    assert ran.returncode == 2
    assert "the folder is not empty; name a new one" in ran.stderr
