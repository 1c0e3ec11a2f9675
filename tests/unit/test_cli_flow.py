"""`cicely limits`, `breakers`, `scale` and `explain`: what holds jobs back, and changing it at run time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_shop import Shop
from click.testing import Result

from cicely import Breaker
from cicely.core.breaker import BreakerRule
from cicely.core.job import Claim, Kind
from cicely.core.limits import Limit, Rate
from cicely.core.outcome import Deferred, Succeeded
from cicely.engines.connect import connect
from cicely.engines.contract import Ask, Demand, Session
from cicely.upkeep.settings import declare


class Flow(Shop):
    """The shop with its jobs in a file."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.url = f"sqlite:///{folder}/shop.db"
        self.engine = connect(self.url, role="worker")
        self.engine.open()
        self.module.app.use(self.engine)

    def ask(self, *arguments: str) -> Result:
        """Run a command on the file, with the app at hand."""
        return self.run(*arguments, "--url", self.url)

    def document(self, *arguments: str) -> dict[str, object]:
        """Return the one document, or line, that a command writes as JSON."""
        result = self.ask(*arguments, "--json")
        assert result.exit_code == 0, result.output
        found: dict[str, object] = json.loads(result.stdout)
        return found

    def limit(self, key: str) -> Limit:
        """Return the limit as the engine keeps it."""
        [limit] = [one.setting for one in self.engine.settings("limit") if one.setting.key == key]
        return limit

    def take(self, **session: object) -> list[Claim]:
        """Claim what there is for one slot."""
        options = {"id": "child-1", "worker": "worker-1", "name": "box:1/1", **session}
        tasks = frozenset({"shop.pack", "shop.ship"})
        self.engine.join(Session(tasks=tasks, queues=("default", "slow"), **options))
        request = next(self._requests).to_bytes(8, "big")
        kinds = (Kind.SYNC, Kind.ASYNC, Kind.ISOLATED)
        demand = Demand(request, ("default", "slow"), (Ask(kinds, 1),))
        return list(self.engine.claim(options["id"], demand).claims)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Flow]:
    shop = Flow(tmp_path)
    yield shop
    shop.module.app.use(None)


# --- limits: looking ----------------------------------------------------------------------------
def test_without_limits_it_says_so(shop: Flow) -> None:
    result = shop.ask("limits")

    assert (result.exit_code, result.stdout) == (0, "")
    assert "There are no limits. An app declares one with app.limit(...)." in result.stderr


def test_without_limits_it_says_what_the_app_declares(shop: Flow) -> None:
    shop.module.app.limit("api", concurrency=3)

    assert "There are no limits yet. The app declares api: " in shop.ask("limits").stderr


def test_limits_are_shown_with_who_holds_them(shop: Flow) -> None:
    shop.ask("limits", "set", "api", "--concurrency", "2", "--rate", "500/m", "--cost", "tokens=200k/m")
    shop.pack.options(limits="api").delay(1)
    shop.take()

    title, row = shop.ask("limits").stdout.splitlines()

    assert title.split("  ")[0] == "LIMIT"
    assert row.split() == ["api", "1", "2", "500/m", "tokens", "200000/m", "·"]
    assert shop.ask("limits", "list").stdout.splitlines() == [title, row]
    assert shop.document("limits") == {
        "key": "api",
        "concurrency": 2,
        "rate": "500/m",
        "cost": {"tokens": "200000/m"},
        "backlog": None,
        "held": 1,
        "shut_for_s": 0.0,
        "ceiling": None,
    }


def test_a_limit_that_was_refused_says_for_how_long_and_what_it_was_cut_to(shop: Flow) -> None:
    shop.ask("limits", "set", "api", "--concurrency", "9")
    shop.pack.options(limits="api").delay(1)
    [claim] = shop.take()
    shop.engine.settle("child-1", [Deferred(claim.token, 50.0, slows=("api",))])

    [_, row] = shop.ask("limits").stdout.splitlines()

    assert "refused, again in " in row
    assert "1 at once after refusals" in row
    assert 40 < shop.document("limits")["shut_for_s"] <= 50


# --- limits: setting ----------------------------------------------------------------------------
def test_a_limit_is_set_and_said_back(shop: Flow) -> None:
    result = shop.ask("limits", "set", "api", "--concurrency", "2", "--cost", "usd=50/d")

    assert result.stdout == "Set api: concurrency 2, usd 50/d.\n"
    assert shop.limit("api") == Limit(key="api", concurrency=2, costs={"usd": Rate(50, 86_400)})


def test_bounds_that_are_not_given_stay(shop: Flow) -> None:
    shop.ask("limits", "set", "api", "--rate", "1234567/m", "--cost", "tokens=2M/m", "--cost", "usd=50/d")

    said = shop.document("limits", "set", "api", "--concurrency", "10", "--cost", "usd=5/d")

    assert said == {
        "key": "api",
        "concurrency": 10,
        "rate": "1234567/m",
        "cost": {"tokens": "2000000/m", "usd": "5/d"},
        "backlog": None,
    }


def test_none_takes_a_bound_away(shop: Flow) -> None:
    words = ("--concurrency", "2", "--rate", "5/s", "--backlog", "9", "--cost", "a=1/s", "--cost", "b=1/s")
    shop.ask("limits", "set", "api", *words)

    for word in ("--concurrency", "--rate", "--backlog"):
        shop.ask("limits", "set", "api", word, "none")
    result = shop.ask("limits", "set", "api", "--cost", "a=none")

    assert result.stdout == "Set api: b 1/s.\n"
    assert shop.ask("limits", "set", "api", "--cost", "b=none").stdout == "Set api: no bounds.\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--concurrency", "0"], "concurrency=0: a whole number from 1"),
        (["--concurrency", "-3"], "concurrency=-3: a whole number from 1"),
        (["--concurrency", "fast"], "concurrency='fast': a whole number from 1"),
        (["--concurrency", "2.5"], "concurrency='2.5': a whole number from 1"),
        (["--concurrency", "9" * 30], "a whole number from 1 to 1,000,000,000"),
        (["--backlog", "0"], "backlog=0: a whole number from 1"),
        (["--rate", "fast"], "rate='fast': write an amount and a time"),
        (["--rate", "500"], "rate='500': write an amount and a time"),
        (["--rate", "0/m"], "rate='0/m': a rate lets something pass"),
        (["--rate", "-5/m"], "rate='-5/m': write an amount and a time"),
        (["--rate", "5/0s"], "rate='5/0s': a rate lets something pass"),
        (["--rate", "9" * 400 + "/m"], "what bounds nothing may be left out"),
        (["--cost", "tokens=fast"], "cost['tokens']='fast': write an amount and a time"),
        (["--cost", "tokens"], "--cost 'tokens': write each meter once, as tokens=200k/m"),
        (["--cost", "=5/m"], "--cost '=5/m': write each meter once"),
        (["--cost", "a=1/m", "--cost", "a=2/m"], "--cost 'a=2/m': write each meter once"),
        ([], "Give --concurrency, --rate, --cost or --backlog"),
        (["--cuncurrency", "3"], "No such option"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else "",
)
def test_a_bound_that_makes_no_sense_changes_nothing(shop: Flow, words: list[str], says: str) -> None:
    result = shop.ask("limits", "set", "api", *words)

    assert result.exit_code == 2
    assert says in result.stderr
    assert "Traceback" not in result.output
    assert shop.engine.settings("limit") == []


@pytest.mark.parametrize("key", ["", "x" * 201, "a\nb", "breaker:db"])
def test_a_key_that_cannot_be_one_is_refused(shop: Flow, key: str) -> None:
    result = shop.ask("limits", "set", key, "--concurrency", "1")

    assert result.exit_code == 2
    assert "limit=" in result.stderr


def test_what_is_set_before_the_first_worker_starts_stays_when_it_does(shop: Flow) -> None:
    shop.module.app.limit("api", concurrency=3, rate="10/m")

    result = shop.ask("limits", "set", "api", "--concurrency", "7")
    declare(shop.engine, shop.module.app.declared_settings())

    assert result.stdout == "Set api: concurrency 7, rate 10/m.\n"
    assert shop.limit("api") == Limit(key="api", concurrency=7, rate=Rate(10, 60))


def test_a_new_limit_that_looks_like_a_typo_is_told(shop: Flow) -> None:
    shop.ask("limits", "set", "anthropic/opus", "--concurrency", "20")

    result = shop.ask("limits", "set", "antropic/opus", "--concurrency", "10")

    assert result.exit_code == 0
    assert "Did you mean anthropic/opus? `cicely limits remove antropic/opus` undoes it." in result.stderr


def test_a_typo_of_a_key_that_only_the_code_has_is_told(shop: Flow) -> None:
    shop.module.app.limit("anthropic/opus", concurrency=20)
    shop.module.app.task(name="shop.ask", limits="openai/o9")(len)

    declared = shop.ask("limits", "set", "antropic/opus", "--concurrency", "5")
    named = shop.ask("limits", "set", "openay/o9", "--concurrency", "5")
    right = shop.ask("limits", "set", "openai/o9", "--concurrency", "5")

    assert "Did you mean anthropic/opus?" in declared.stderr
    assert "Did you mean openai/o9?" in named.stderr
    assert right.stderr == ""


@pytest.mark.parametrize(
    ("key", "options", "says"),
    [
        ("queue:slow", ["--concurrency", "5"], "declare app.cap(queue='slow', ...)"),
        ("tag:user", ["--concurrency", "5"], "declare app.cap(tag='user', ...), or quota_by="),
        ("tag:team=a", ["--backlog", "5"], "declare app.cap(tag='team=a', ...), or quota_by="),
        ("queue:slow", ["--backlog", "5"], ""),
        ("tag:user=7", ["--concurrency", "5"], ""),
        ("tag:capped", ["--concurrency", "5"], ""),
        ("any", ["--concurrency", "5"], ""),
    ],
)
def test_a_limit_that_the_jobs_of_the_app_do_not_pass_is_told(
    shop: Flow, key: str, options: list[str], says: str
) -> None:
    shop.module.app.registry.quota_by = ("user",)
    shop.module.app.cap(tag="capped", running=20)

    result = shop.ask("limits", "set", key, *options)

    assert result.exit_code == 0
    assert says in result.stderr
    assert ("holds none" in result.stderr) is bool(says)


def test_a_quota_of_another_value_is_no_typo_and_one_of_another_name_may_be(shop: Flow) -> None:
    shop.module.app.registry.quota_by = ("team", "user")
    shop.ask("limits", "set", "tag:team=a", "--concurrency", "20")

    first = shop.ask("limits", "set", "tag:user=7", "--concurrency", "5")
    second = shop.ask("limits", "set", "tag:user=8", "--concurrency", "5")
    typo = shop.ask("limits", "set", "tag:usr=8", "--concurrency", "5")

    assert first.stderr == second.stderr == ""
    assert "Did you mean tag:user=" in typo.stderr


def test_a_limit_that_is_lowered_while_held_ends_nothing_and_starts_nothing(shop: Flow) -> None:
    shop.ask("limits", "set", "api", "--concurrency", "2")
    for number in range(3):
        shop.pack.options(limits="api").delay(number)
    first, second = [*shop.take(), *shop.take()]

    shop.ask("limits", "set", "api", "--concurrency", "1")

    assert shop.document("limits")["held"] == 2
    shop.engine.settle("child-1", [Succeeded(first.token, b"")])
    assert shop.take() == []
    shop.engine.settle("child-1", [Succeeded(second.token, b"")])
    assert len(shop.take()) == 1


# --- limits: removing ---------------------------------------------------------------------------
def test_a_limit_that_is_removed_bounds_nothing_more(shop: Flow) -> None:
    shop.ask("limits", "set", "api", "--concurrency", "1")
    for number in range(2):
        shop.pack.options(limits="api").delay(number)
    shop.take()

    assert shop.ask("limits", "remove", "api").stdout == "Removed api.\n"

    assert len(shop.take()) == 1


def test_removing_an_unknown_limit_is_exit_code_1(shop: Flow) -> None:
    result = shop.ask("limits", "remove", "api")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "There is no limit api; `cicely limits` lists them." in result.stderr
    as_json = shop.ask("limits", "remove", "api", "--json")
    assert (as_json.exit_code, json.loads(as_json.stdout)) == (1, {"key": "api", "removed": False})


def test_the_place_and_the_form_may_be_named_before_the_word(shop: Flow) -> None:
    result = shop.run("limits", "--url", shop.url, "--json", "set", "api", "--concurrency", "3")

    assert json.loads(result.stdout)["concurrency"] == 3
    assert shop.limit("api").concurrency == 3


@pytest.mark.parametrize("group", ["limits", "breakers"])
def test_a_mistyped_word_is_one_line(shop: Flow, group: str) -> None:
    result = shop.ask(group, "lst")

    assert result.exit_code == 2
    assert "lst" in result.stderr
    assert "Traceback" not in result.output


# --- breakers -----------------------------------------------------------------------------------
def test_without_breakers_it_says_so(shop: Flow) -> None:
    result = shop.ask("breakers")

    assert (result.exit_code, result.stdout) == (0, "")
    assert "There are no breakers. A task names one with breaker=Breaker(...)." in result.stderr


def test_a_breaker_is_tripped_shown_and_reset(shop: Flow) -> None:
    shop.engine.configure([BreakerRule("executor")])
    shop.pack.options(breaker=Breaker("executor")).delay(1)

    assert shop.ask("breakers", "trip", "executor").stdout == "Opened executor.\n"
    assert shop.ask("breakers", "trip", "executor").stdout == "executor stood so already.\n"

    assert shop.take() == []
    [_, row] = shop.ask("breakers").stdout.splitlines()
    assert row.split(maxsplit=2)[:2] == ["executor", "open"]
    assert row.endswith("5 within 1m 00s  by hand, until it is reset")
    assert shop.document("breakers", "list") == {
        "name": "executor",
        "state": "open",
        "running": 0,
        "failures": 0,
        "opens_after": 5,
        "within_s": 60.0,
        "cooldown_s": 60.0,
        "probe_in_s": None,
    }

    said = shop.document("breakers", "reset", "executor")

    assert said == {"breaker": "executor", "move": "reset", "changed": True}
    assert shop.document("breakers")["state"] == "closed"
    assert len(shop.take()) == 1


def test_an_unknown_breaker_is_named_with_the_nearest_one(shop: Flow) -> None:
    none_yet = shop.ask("breakers", "trip", "executor")
    shop.engine.configure([BreakerRule("executor"), BreakerRule("db")])
    near = shop.ask("breakers", "trip", "exector")
    far = shop.ask("breakers", "reset", "xyz\x1b")

    assert none_yet.exit_code == near.exit_code == far.exit_code == 2
    assert "there is no breaker executor; there are none yet" in none_yet.stderr
    assert "there is no breaker exector; did you mean executor?" in near.stderr
    assert "there is no breaker xyz\\x1b; there are db, executor" in far.stderr
    assert {one["state"] for one in map(json.loads, shop.ask("breakers", "--json").stdout.splitlines())} == {
        "closed"
    }


def test_a_breaker_of_the_code_can_be_tripped_before_any_worker_has_started(shop: Flow) -> None:
    shop.module.app.task(name="shop.run", breaker=Breaker("executor", failures=3))(len)

    assert shop.ask("breakers", "trip", "executor").stdout == "Opened executor.\n"

    assert shop.document("breakers")["opens_after"] == 3


# --- scale --------------------------------------------------------------------------------------
def test_scale_says_how_many_processes_and_workers_the_backlog_wants(shop: Flow) -> None:
    shop.pack.delay_many([(number,) for number in range(95)])
    shop.take(name="one")

    said = shop.document("scale", "--per-worker", "4")

    assert said == {
        "waiting": 94,
        "held_back": 0,
        "mean_s": None,
        "processes": 1,
        "wanted_processes": 10,
        "wanted_workers": 3,
    }
    pairs = [line.split(maxsplit=1) for line in shop.ask("scale").stdout.splitlines()]
    assert ["processes", "1 now, 10 wanted"] in pairs
    assert ["workers", "5 wanted, of 2 processes each"] in pairs


def test_scale_keeps_to_the_least_and_the_most(shop: Flow) -> None:
    assert shop.document("scale", "--processes", "3:8")["wanted_processes"] == 3
    shop.pack.delay_many([(number,) for number in range(300)])
    assert shop.document("scale", "--processes", "3:8")["wanted_processes"] == 8


def test_scale_counts_the_jobs_and_the_processes_of_a_queue_only(shop: Flow) -> None:
    shop.pack.delay_many([(number,) for number in range(300)])
    shop.ship.delay(1)
    for number, queue in enumerate(("default", "default", "slow")):
        tasks = frozenset({"shop.pack", "shop.ship"})
        shop.engine.join(Session(id=f"c{number}", worker="w", tasks=tasks, queues=(queue,)))

    said = shop.document("scale", "-Q", "slow")

    assert (said["waiting"], said["processes"], said["wanted_processes"]) == (1, 1, 1)


def test_a_queue_that_nobody_knows_is_told_and_no_error(shop: Flow) -> None:
    result = shop.ask("scale", "-Q", "slwo")

    assert result.exit_code == 0
    assert "No queue slwo has had a job yet. Did you mean slow?" in result.stderr


@pytest.mark.parametrize(
    "words",
    [["--processes", "0"], ["--processes", "8:2"], ["--processes", "fast"], ["--per-worker", "0"]],
    ids=" ".join,
)
def test_a_number_of_processes_that_makes_no_sense_is_refused(shop: Flow, words: list[str]) -> None:
    result = shop.ask("scale", *words)

    assert result.exit_code == 2
    assert words[0] in result.stderr


# --- explain ------------------------------------------------------------------------------------
def test_explain_says_what_holds_a_job_back(shop: Flow) -> None:
    shop.ask("limits", "set", "api", "--concurrency", "1")
    first, second = (shop.pack.options(limits="api").delay(number) for number in range(2))
    shop.take()

    assert shop.ask("explain", first.id).stdout.startswith(f"{first.id} is running: it runs on box:1/1")
    line = shop.ask("explain", second.id[-8:]).stdout
    assert line.startswith(
        f"{second.id} is ready: limit api is full: 1 of 1 are held by {first.id} on box:1/1"
    )
    assert line.count("\n") == 1


def test_explain_gives_numbers_to_programs(shop: Flow) -> None:
    shop.engine.configure([Limit(key="api", rate=Rate(1, 60))])
    job, late = (shop.pack.options(limits="api").delay(number) for number in range(2))
    shop.take()

    said = shop.document("explain", late.id)

    assert (said["job"], said["state"], said["reason"]) == (late.id, "ready", "rate")
    assert said["until"] > shop.engine.settings("limit")[0].now + 30
    assert said["details"]["key"] == "api"
    assert shop.document("explain", job.id)["reason"] == "running"


def test_explain_names_nobody_who_could_run_it(shop: Flow) -> None:
    job = shop.pack.options(resources={"gpu": 4}).delay(1)
    assert "no worker serves its queue default" in shop.ask("explain", job.id).stdout

    shop.take(offers={"gpu": {"0": 1.0, "1": 1.0}})

    assert "the most that one has is 2" in shop.ask("explain", job.id).stdout


def test_explain_of_an_unknown_job_is_exit_code_1(shop: Flow) -> None:
    result = shop.ask("explain", "nowhere\x1b[31m")

    assert result.exit_code == 1
    assert "there is no job nowhere\\x1b[31m" in result.stderr
    assert "Traceback" not in result.output


def test_explain_of_an_id_that_fits_several_jobs_is_refused(shop: Flow) -> None:
    for name in ("order-a1", "order-a2"):
        shop.pack.options(id=name).delay(1)

    result = shop.ask("explain", "order-a")

    assert result.exit_code == 2
    assert "order-a is short for several jobs: order-a2, order-a1" in result.stderr
