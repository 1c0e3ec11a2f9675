"""What mypy must accept and infer; checked with `mypy --strict`, never run."""

from collections.abc import Coroutine
from typing import Any, assert_type

from cicely import Cicely, Job, QueueBackend, Retry, Task, stable

app = Cicely("typing")


@app.task
def bare(x: int, *, y: str = "") -> list[str]:
    return [y] * x


@app.task(queue="q", retry=Retry(attempts=4, backoff=60), timeout="5m", raises=(OSError, KeyError))
def with_options(x: int) -> dict[str, float]:
    return {"x": float(x)}


@app.task
async def coroutine(x: int) -> bytes:
    return bytes(x)


@app.task(priority=9)
async def coroutine_with_options(x: int) -> bytes:
    return bytes(x)


@app.task(bind=True)
def bound(self: Task[..., Any], x: int) -> str:
    return f"{self.name} {x}"


def plain(x: int) -> float:
    return float(x)


assert_type(bare(1, y="a"), list[str])
assert_type(bare.delay(1, y="a"), Job[list[str]])
assert_type(bare.delay(1).get(timeout=10), list[str])
assert_type(bare.delay(1).result, list[str] | None)
assert_type(bare.options(countdown=60, id=stable("v1")).delay(1).get(), list[str])
assert_type(bare.delay_many([(1,), (2,)], ids=stable("v1")), list[Job[list[str]]])
assert_type(bare.apply_async((1,), {"y": "a"}, priority=9).get(), list[str])

assert_type(with_options(1), dict[str, float])
assert_type(with_options.delay(1).get(), dict[str, float])

called: Coroutine[Any, Any, bytes] = coroutine(1)
assert_type(coroutine.delay(1).get(), bytes)
assert_type(coroutine_with_options.delay(1).get(), bytes)

assert_type(bound(1), str)
assert_type(bound.delay(1).get(), str)

assert_type(app.enqueue(plain, 1).get(), float)

queue: QueueBackend = app.queue("raw", priority=3)
for message in queue.receive(max=10, wait="5s"):
    message.nack(delay=60)


async def awaited() -> None:
    job = await bare.adelay(1, y="a")
    assert_type(await job.aget(), list[str])
