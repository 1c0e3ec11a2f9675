"""What mypy must accept and infer; checked with `mypy --strict`, never run."""

from collections.abc import Coroutine
from typing import Any, assert_type

from cicely import (
    Alert,
    Canvas,
    Cicely,
    DeadLetter,
    DeadLetterReport,
    Event,
    FlowNode,
    FlowRun,
    GroupJob,
    Job,
    QueueBackend,
    Retry,
    Revive,
    Signature,
    Task,
    chain,
    chord,
    current,
    group,
    stable,
)

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


@app.task
def goes_on(x: int) -> Signature[list[str]]:
    return bare.s(x)


@app.task(queue="q")
def goes_on_as_a_chain(x: int) -> chain[Job[dict[str, float]]]:
    return bare.s(x) | with_options.s()


@app.task(bind=True)
def goes_on_as_a_group(self: object, x: int) -> group[dict[str, float]]:
    return group(with_options.s(x) for _ in range(2))


@app.task
async def goes_on_later(x: int) -> Canvas[Job[bytes]]:
    return coroutine.s(x)


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

assert_type(goes_on.delay(1).get(), list[str])
assert_type(goes_on_as_a_chain.delay(1).get(), dict[str, float])
assert_type(goes_on_as_a_group.delay(1).get(), list[dict[str, float]])
assert_type(goes_on_later.delay(1).get(), bytes)
assert_type(group(goes_on.s(1), goes_on.s(2)).delay().get(), list[list[str]])

assert_type(app.enqueue(plain, 1).get(), float)

queue: QueueBackend = app.queue("raw", priority=3)
for message in queue.receive(max=10, wait="5s"):
    message.nack(delay=60)


async def awaited() -> None:
    job = await bare.adelay(1, y="a")
    assert_type(await job.aget(), list[str])


assert_type(bare.s(1, y="a"), Signature[list[str]])
assert_type(bare.si(1).set(queue="q"), Signature[list[str]])
assert_type(bare.s(1).delay(), Job[list[str]])
assert_type(bare.s(1)(), list[str])
assert_type(coroutine.s(1).delay().get(), bytes)
assert_type((bare.s(1) | with_options.s()).delay().get(), dict[str, float])
assert_type((bare.s(1) | with_options.s() | bound.s()).delay(), Job[str])
assert_type(chain(bare.s(1), with_options.s())(), Job[dict[str, float]])
assert_type(group(bare.s(i) for i in range(3)), group[list[str]])
assert_type(group(bare.s(1), bare.s(2)).delay(), GroupJob[list[str]])
assert_type(group([bare.s(1)]).delay().get(), list[list[str]])
assert_type((bare.s(1) | group([with_options.s()])).delay(), GroupJob[dict[str, float]])
assert_type((group([bare.s(1)]) | with_options.s()).delay().get(), dict[str, float])
assert_type(chord([bare.s(1)], with_options.s()).delay(), Job[dict[str, float]])
assert_type(chord([bare.s(1)])(with_options.s()), Job[dict[str, float]])
assert_type(bare.starmap([(1,), (2,)]).delay().get(), list[list[str]])
assert_type(bare.chunks([(1,), (2,)], 1).delay(), GroupJob[list[list[str]]])

flow = app.flow()
node = flow.add(bare.s(1))
assert_type(flow.add(with_options.s(node), after=[node, "later"], on="done"), FlowNode)
assert_type(flow.delay(), FlowRun)


@app.on_failed(task=bare, error=ConnectionError, queue="q")
def told(letter: DeadLetter) -> str:
    return letter.error.message


@app.on_failed
async def told_async(letter: DeadLetter) -> None: ...


for event in app.events("job.failed", task="t"):
    assert_type(event, Event)


async def followed() -> None:
    async for event in app.events(follow=True):
        assert_type(event.run_s, float | None)


assert_type(told(app.dead_letters()[0].letters[0]), str)
assert_type(app.process_dead_letters(revive=[Revive()], alert=[Alert(to=print)]), DeadLetterReport)
assert_type(app.metrics(), str)


def inside_a_job() -> float:
    current().progress(1, 2)
    return current().attempt
