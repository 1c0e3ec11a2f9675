"""People who search while versions are swapped, and the check of every answer that they got."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import numpy as np

from examples.embedding_index import library
from examples.embedding_index.vectors import Floats

VISITORS = 2
_PAUSE_S = 0.01
_PATIENCE_S = 10.0
_SCORE_ERROR = 1e-4


@dataclass(frozen=True)
class Answer:
    """What the server said to a question."""

    question: str
    version: str
    rows: list[int]
    scores: list[float]
    passages: list[str]


class Server:
    """The query server as a process; it ends with the block."""

    def __init__(self, log: Path) -> None:
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "examples.embedding_index.server"],
                cwd=Path(__file__).parents[2],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=_PATIENCE_S)


class Visitors:
    """Threads that ask one question after the other until the block is left."""

    def __init__(self, port: int, questions: Sequence[str]) -> None:
        self.answers: list[Answer] = []
        self.failures: list[str] = []
        self._port = port
        self._questions = questions
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._visit, args=(first,)) for first in range(VISITORS)]

    def __enter__(self) -> Visitors:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def await_version(self, version: str) -> None:
        """Return when somebody was answered from this version. Raises TimeoutError."""
        give_up_at = time.monotonic() + _PATIENCE_S
        while not any(answer.version >= version for answer in self.answers[-2 * VISITORS :]):
            if time.monotonic() > give_up_at:
                raise TimeoutError(f"no answer from version {version} within {_PATIENCE_S:g} s")
            time.sleep(_PAUSE_S / 2)

    def _visit(self, first: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_PATIENCE_S)
        turn = first
        while not self._stopped.wait(_PAUSE_S):
            question = self._questions[turn % len(self._questions)]
            turn += VISITORS
            try:
                self.answers.append(_asked(connection, question))
            except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
                self.failures.append(f"{type(error).__name__}: {error}")
                connection.close()
        connection.close()


def _asked(connection: http.client.HTTPConnection, question: str) -> Answer:
    connection.request("GET", f"/search?q={quote(question)}")
    response = connection.getresponse()
    body = response.read()
    if response.status != http.HTTPStatus.OK:
        raise ValueError(f"{response.status} {response.reason}")
    said = json.loads(body)
    hits = said["hits"]
    return Answer(
        question,
        said["version"],
        [hit["row"] for hit in hits],
        [hit["score"] for hit in hits],
        [hit["passage"] for hit in hits],
    )


# --- the check ----------------------------------------------------------------------------------


@dataclass
class Judgement:
    """What came out. `mixed` are answers that are not of the version that they name."""

    answers: int = 0
    versions: set[str] = field(default_factory=set)
    mixed: list[str] = field(default_factory=list)
    recall: float = 0.0


def judge(answers: Sequence[Answer]) -> Judgement:
    """Compare every answer with the files of the version that it names."""
    judgement = Judgement(answers=len(answers))
    recalls: list[float] = []
    for version in sorted({answer.version for answer in answers}):
        judgement.versions.add(version)
        index = library.load(version)
        of_version = [answer for answer in answers if answer.version == version]
        questions = sorted({answer.question for answer in of_version})
        scores = dict(zip(questions, index.scores(questions), strict=True))
        for answer in of_version:
            judgement.mixed += _mixed(answer, index, scores[answer.question])
            recalls.append(_recall(answer, scores[answer.question]))
    judgement.recall = sum(recalls) / len(recalls) if recalls else 0.0
    return judgement


def _mixed(answer: Answer, index: library.Index, scores: Floats) -> list[str]:
    return [
        f"row {row} of version {index.version}: {passage[:40]!r}, {score:.4f}"
        for row, score, passage in zip(answer.rows, answer.scores, answer.passages, strict=True)
        if index.passages[row] != passage or abs(scores[row] - score) > _SCORE_ERROR
    ]


def _recall(answer: Answer, scores: Floats) -> float:
    # Passages with equal scores may stand for each other, so that scores are what counts.
    count = len(answer.scores)
    least = np.partition(scores, -count)[-count] - _SCORE_ERROR
    return sum(bool(score >= least) for score in answer.scores) / count
