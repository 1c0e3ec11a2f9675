"""The app: tasks, queues and schedules.

`cicely worker examples.embedding_index.app:app` rebuilds the index every hour. Anyone may ask for it
sooner: `rebuild.delay().get()`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cicely import Canvas, Cicely, chord, cron, every, group
from examples.embedding_index import corpus, library
from examples.embedding_index.vectors import Counts, counts_of

BATCH = 100
KEPT_VERSIONS = 3

app = Cicely("embedding_index")

# A free slot takes a job of the highest queue that has one: a finished index is not kept waiting by the
# next one's batches, and nothing is kept waiting by statistics.
app.queue("high", priority=9)
app.queue("medium", priority=7)
app.queue("low", priority=5)


@app.task(queue="high")
def rebuild() -> Canvas[Any]:
    """Make a new version of the index and serve it; the result is its name.

    What is returned here is a workflow. The job goes on as that: it waits, without a slot, and ends with
    the workflow's result. An attempt that is killed before leaves nothing behind that could run.
    """
    passages = corpus.read()
    version = library.begin(passages)
    batches = corpus.chunked(passages, BATCH)
    return chord(group(embed.s(batch) for batch in batches), build_index.s(version)) | swap.s()


@app.task(queue="medium", keep="5m")
def embed(passages: list[str]) -> Counts:
    """Return a row of word counts per passage. NumPy arrays travel as they are.

    Nobody asks for them after the index is built, so the engine need not keep them for a day.
    """
    return counts_of(passages)


@app.task(queue="high")
def build_index(batches: list[Counts], version: str) -> str:
    """Write the version. The results of the group come first, in the order of its members."""
    library.finish(version, np.concatenate(batches))
    return version


@app.task(queue="high")
def swap(version: str) -> str:
    """Let the servers take this version; return which one they serve now."""
    return library.publish(version)


@app.task(queue="low", expires="4m")
def statistics() -> dict[str, Any]:
    """Say what is served. One that starts after four minutes is of no interest any more."""
    served = library.current()
    index = library.load(served) if served else None
    return {
        "version": served,
        "passages": len(index.passages) if index else 0,
        "vector_bytes": index.vectors.nbytes if index else 0,
        "versions": len(library.versions()),
    }


@app.task(queue="low")
def clean_up() -> list[str]:
    """Delete old versions; return their names."""
    return library.prune(KEPT_VERSIONS)


# Any worker ticks, and each tick makes one job, however many workers there are.
app.schedule("rebuild", rebuild.s(), every("1h"), overlap="skip")
app.schedule("statistics", statistics.s(), every("5m"), catch_up="skip")
app.schedule("clean-up", clean_up.s(), cron("0 4 * * *", tz="Europe/Berlin"))
