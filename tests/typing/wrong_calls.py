"""What mypy must refuse, by the code of each refusal.

An ignore that nothing needs is an error of its own under `mypy --strict`: a call that mypy no longer
refuses turns this file red.
"""

from cicely import Cicely, chord, group

app = Cicely("typing")


@app.task
def bare(x: int, *, y: str = "") -> list[str]:
    return [y] * x


@app.task(queue="q")
async def coroutine(x: int) -> bytes:
    return bytes(x)


@app.task(bind=True)
def bound(self: object, x: int) -> str:
    return str(x)


def plain(x: int) -> float:
    return float(x)


bare.delay("one")  # type: ignore[arg-type]
bare.delay()  # type: ignore[call-arg]
bare.delay(1, z="")  # type: ignore[call-arg]
bare.options(priority=9).delay("one")  # type: ignore[arg-type]
bare.options(priority="high")  # type: ignore[arg-type]
bare.options(count_down=60)  # type: ignore[call-arg]
wrong: int = bare.delay(1).get()  # type: ignore[assignment]

coroutine.delay("one")  # type: ignore[arg-type]
bound.delay("one")  # type: ignore[arg-type]
bound.delay(bound, 1)  # type: ignore[call-arg, arg-type]
app.enqueue(plain, "one")  # type: ignore[call-overload]

app.task(time_out=3)  # type: ignore[call-overload]

bare.s(1).set(count_down=60)  # type: ignore[call-arg]
bare.s(1).link(bare)  # type: ignore[arg-type]
bare.s(1) | bare  # type: ignore[operator]
chord([bare.s(1)], bare)  # type: ignore[call-overload]
group([1, 2])  # type: ignore[arg-type]
app.flow().add(bare)  # type: ignore[arg-type]
wrong_chain: int = (bare.s(1) | coroutine.s()).delay().get()  # type: ignore[assignment]
