"""Metrics as text: what stands in the engine, and counters that only grow."""

import re

import pytest

from cicely import Cicely
from cicely.core.rollup import Count, Word
from cicely.engines.contract import Session
from cicely.observe.metrics import Metrics
from cicely.testing.inline import inline


@pytest.fixture
def app():
    app = Cicely("metered", "memory://")

    @app.task(name="metered.work", queue="main")
    def work(number):
        if number < 0:
            raise ValueError(number)

    app.work = work
    return app


def values(text):
    """Return each sample by its name with labels."""
    samples = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            assert name not in samples, f"{name} stands there twice"
            samples[name] = float(value)
    return samples


def test_every_line_is_one_that_prometheus_reads(app):
    with inline(app) as world:
        app.work.delay(1)
        app.work.delay(-1)
        world.run()
        text = app.metrics()

    label = r'[a-z_]+="(?:[^"\\\n]|\\[\\n"])*"'
    sample = re.compile(rf"cicely_[a-z_]+(?:\{{{label}(?:,{label})*\}})? [0-9.e+-]+")
    for line in text.splitlines():
        assert re.fullmatch(
            r"# (?:HELP cicely_[a-z_]+ .+|TYPE cicely_[a-z_]+ (?:gauge|counter|histogram))", line
        ) or (sample.fullmatch(line)), line
    assert text.endswith("\n")


def test_jobs_are_shown_by_queue_and_state(app):
    with inline(app) as world:
        for number in (1, 2, -1):
            app.work.delay(number)
        world.run()
        app.work.delay(3)
        app.queue("main")
        world.engine.pause("main")
        found = values(app.metrics())

    assert found['cicely_jobs{queue="main",state="succeeded"}'] == 2
    assert found['cicely_jobs{queue="main",state="failed"}'] == 1
    assert found['cicely_jobs{queue="main",state="ready"}'] == 1
    assert found['cicely_queue_paused{queue="main"}'] == 1


def test_counters_grow_by_what_was_counted_since_the_first_scrape(app):
    name = 'cicely_jobs_total{task="metered.work",queue="main",outcome="succeeded"}'
    with inline(app) as world:
        metrics = Metrics()
        metrics.text(world.engine)
        found = []
        for _ in range(4):
            app.work.delay(1)
            world.run()
            found.append(values(metrics.text(world.engine))[name])
            world.advance(90)

    assert found == [1, 2, 3, 4]


def test_counters_never_fall(app):
    name = 'cicely_jobs_total{task="metered.work",queue="main",outcome="enqueued"}'
    with inline(app) as world:
        metrics = Metrics()
        last = 0
        for _ in range(100):
            app.work.delay(1)
            now = values(metrics.text(world.engine)).get(name, 0)
            assert now >= last
            last = now
            world.advance(17)

    assert last == 100


def test_run_times_are_a_histogram(app):
    with inline(app) as world:
        metrics = Metrics()
        metrics.text(world.engine)
        for _ in range(3):
            app.work.delay(1)
        world.run()
        found = values(metrics.text(world.engine))

    labels = 'task="metered.work",queue="main"'
    buckets = [value for name, value in found.items() if name.startswith("cicely_run_seconds_bucket")]
    assert buckets == sorted(buckets)
    assert found[f'cicely_run_seconds_bucket{{{labels},le="0.001"}}'] == 3
    assert found[f'cicely_run_seconds_bucket{{{labels},le="+Inf"}}'] == 3
    assert found[f"cicely_run_seconds_count{{{labels}}}"] == 3


def test_workers_and_what_they_report_are_shown(app):
    with inline(app) as world:
        world.engine.join(Session(id="boss", worker="boss"))
        metrics = Metrics()
        metrics.text(world.engine)
        world.engine.report([Count(Word.ENGINE_ERRORS, 2), Count(Word.TICKS_DUE, 1, "nightly")])
        found = values(metrics.text(world.engine))

    assert found["cicely_workers"] == 1
    assert found["cicely_engine_errors_total"] == 2
    assert found['cicely_ticks_total{schedule="nightly",what="due"}'] == 1


def test_the_wanted_processes_are_those_of_all_queues_and_of_each(app):
    with inline(app) as world:
        for queue in ("main", "side", "paused"):
            app.queue(queue)
        for queue in ("main", "side"):
            app.work.options(queue=queue).delay_many([(number,) for number in range(45)])
        for name in ("main", "main", "paused"):
            child = f"c{len(world.engine.sessions())}"
            world.engine.join(Session(id=child, worker="w", tasks=frozenset({app.work.name}), queues=(name,)))
        app.work.options(queue="paused").delay_many([(number,) for number in range(500)])
        world.engine.pause("paused")
        found = values(app.metrics())

    assert found["cicely_wanted_processes"] == 9
    assert found['cicely_queue_wanted_processes{queue="main"}'] == 5
    assert found['cicely_queue_wanted_processes{queue="paused"}'] == 0


def test_without_a_job_that_waits_no_process_is_wanted(app):
    with inline(app):
        assert values(app.metrics())["cicely_wanted_processes"] == 0


def test_hostile_names_are_escaped(app):
    with inline(app) as world:
        world.engine.pause('a"b\\c\nd')

        assert 'queue="a\\"b\\\\c\\nd"' in app.metrics()
