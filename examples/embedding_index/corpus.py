"""The documents: Python's help topics and the docstrings of its standard library, cut into passages."""

from __future__ import annotations

import ast
import json
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from pydoc_data import topics

from examples.embedding_index.library import folder, write_whole

PASSAGE_WORDS = 40
_OTHER_PEOPLES = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "turtledemo"}


def read() -> list[str]:
    """Return the passages as they are now. The first call collects them, which takes some seconds."""
    file = folder() / "passages.json"
    if not file.exists():
        write(collect())
    passages: list[str] = json.loads(file.read_bytes())
    return passages


def write(passages: Iterable[str]) -> None:
    """Put other passages in the place of all: whoever reads meanwhile gets the old ones, or these."""
    write_whole(folder() / "passages.json", json.dumps(list(passages)).encode())


def collect() -> Iterator[str]:
    """Yield all passages: some words each, with the title of their document before them."""
    for title, text in _documents():
        words = text.split()
        for start in range(0, len(words), PASSAGE_WORDS):
            yield f"{title}: {' '.join(words[start : start + PASSAGE_WORDS])}"


def _documents() -> Iterator[tuple[str, str]]:
    yield from topics.topics.items()
    library = Path(sysconfig.get_path("stdlib"))
    for file in sorted(library.rglob("*.py")):
        place = file.relative_to(library).with_suffix("")
        if not _OTHER_PEOPLES.intersection(place.parts):
            yield from _docstrings(file, ".".join(place.parts))


def _docstrings(file: Path, module: str) -> Iterator[tuple[str, str]]:
    # Read, not imported: some modules of the library act when they are imported.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(file.read_bytes())
        except (SyntaxError, ValueError):
            return
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        text = ast.get_docstring(node)
        if text:
            yield f"{module}.{getattr(node, 'name', '')}".rstrip("."), text


def chunked(passages: list[str], size: int) -> Iterator[list[str]]:
    """Yield the passages in batches, in order."""
    for start in range(0, len(passages), size):
        yield passages[start : start + size]
