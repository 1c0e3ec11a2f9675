"""Versions of the index on disk: written beside each other, finished by a rename, published by another.

::

    passages.json          what is to be indexed
    versions/<version>/    passages.json, rarity.npy, vectors.npy, with faiss also index.faiss
    CURRENT                the name of the version that is served
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from examples.embedding_index.vectors import Counts, Floats, counts_of, rarity_of, weighted

PARTIAL = ".partial"
GONE = ".gone"
_A_DAY_S = 24 * 3600
#: Of faiss's graph: its edges per passage, and how many candidates a search keeps.
_NEIGHBOURS, _LOOKED_AT = 16, 128


def folder() -> Path:
    """Return where the example keeps its files."""
    default = Path(__file__).parent / ".cicely" / "library"
    return Path(os.environ.get("EXAMPLE_FOLDER", default))


# --- writing ------------------------------------------------------------------------------------


def begin(passages: Sequence[str]) -> str:
    """Begin a version and return its name. Later versions have greater names."""
    version = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
    place = _place(version + PARTIAL)
    place.mkdir(parents=True)
    write_whole(place / "passages.json", json.dumps(list(passages)).encode())
    return version


def finish(version: str, counts: Counts) -> None:
    """Write the vectors of a version, and give its folder its name. Again changes nothing."""
    partial = _place(version + PARTIAL)
    if _place(version).exists():
        return
    rarity = rarity_of(counts)
    vectors = weighted(counts, rarity)
    np.save(partial / "rarity.npy", rarity)
    np.save(partial / "vectors.npy", vectors)
    _write_approximate(partial / "index.faiss", vectors)
    partial.rename(_place(version))


def publish(version: str) -> str:
    """Serve this version from now on, unless a later one is served already; return which is."""
    with (folder() / "CURRENT.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        served = current()
        if version > served:
            write_whole(folder() / "CURRENT", version.encode())
            return version
        return served


def prune(keep: int) -> list[str]:
    """Delete all versions but the newest and the one that is served; return their names."""
    served = current()
    pruned = [version for version in versions()[:-keep] if version != served]
    for version in pruned:
        # Renamed first, so that nobody ever finds half a version.
        _place(version).rename(_place(version + GONE))
    for rest in _place("").glob("*[!0-9]"):
        if rest.suffix == GONE or time.time() - rest.stat().st_mtime > _A_DAY_S:
            shutil.rmtree(rest)
    return pruned


def write_whole(file: Path, content: bytes) -> None:
    """Write a file so that a reader finds what was there before, or all of this."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f"{file.name}.{os.getpid()}.new")
    with new.open("wb") as output:
        output.write(content)
        output.flush()
        os.fsync(output.fileno())
    new.replace(file)


# --- reading ------------------------------------------------------------------------------------


def current() -> str:
    """Return the name of the version that is served, "" for none."""
    with suppress(FileNotFoundError):
        return (folder() / "CURRENT").read_text()
    return ""


def versions() -> list[str]:
    """Return the names of all finished versions, oldest first."""
    places = _place("").glob("*[0-9]")
    return sorted(place.name for place in places)


@dataclass(frozen=True)
class Index:
    """One version in memory. It never changes, so that an answer cannot be of two."""

    version: str
    passages: list[str]
    rarity: Floats
    vectors: Floats
    approximate: Any = None

    def search(self, question: str, count: int) -> tuple[Floats, list[int]]:
        """Return the scores and the rows of the passages nearest to a question, best first."""
        if self.approximate is not None:
            scores, rows = self.approximate.search(self._vectors([question]), count)
            return scores[0], rows[0].tolist()
        [scores] = self.scores([question])
        nearest = np.argpartition(-scores, count)[:count]
        rows = nearest[np.argsort(-scores[nearest], kind="stable")]
        return scores[rows], rows.tolist()

    def scores(self, questions: Sequence[str]) -> Floats:
        """Return how near every passage is to each question, a row per question: an exact search's view."""
        scores: Floats = self._vectors(questions) @ self.vectors.T
        return scores

    def _vectors(self, questions: Sequence[str]) -> Floats:
        return weighted(counts_of(questions), self.rarity)


def load(version: str) -> Index:
    """Read a version into memory. Raises FileNotFoundError for one that was pruned."""
    place = _place(version)
    return Index(
        version=version,
        passages=json.loads((place / "passages.json").read_bytes()),
        rarity=np.load(place / "rarity.npy"),
        vectors=np.load(place / "vectors.npy"),
        approximate=_read_approximate(place / "index.faiss"),
    )


def _place(name: str) -> Path:
    return folder() / "versions" / name


# --- faiss, where it is installed ---------------------------------------------------------------


def _faiss() -> Any:
    try:
        import faiss  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return None
    faiss.omp_set_num_threads(1)
    return faiss


def _write_approximate(file: Path, vectors: Floats) -> None:
    faiss = _faiss()
    if faiss is None or os.environ.get("EXAMPLE_SEARCH") == "exact":
        return
    index = faiss.IndexHNSWFlat(vectors.shape[1], _NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
    index.add(vectors)
    index.hnsw.efSearch = _LOOKED_AT
    faiss.write_index(index, str(file))


def _read_approximate(file: Path) -> Any:
    return _faiss().read_index(str(file)) if file.exists() else None
