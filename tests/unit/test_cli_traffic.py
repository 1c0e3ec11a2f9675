"""`cicely traffic`: the share of a migration, from the command line."""

from __future__ import annotations

import json

import pytest
from cli_shop import Shop

from cicely.migration import Migration
from cicely.migration.shares import EngineShares


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)


def migration(shop, name="default"):
    return Migration(old=shop.pack, new=shop.ship, name=name)


def test_a_share_that_is_set_is_followed(shop):
    result = shop.run("traffic", "set", "90")

    assert result.stdout == "90 % of default go to the new side, in every process within a second.\n"
    assert migration(shop).traffic().percent == 90


def test_shares_are_listed(shop):
    migration(shop, "evals").set(50)

    assert "evals" in shop.run("traffic").stdout
    assert json.loads(shop.run("traffic", "--json").stdout) == {
        "migration": "evals",
        "percent": 50.0,
        "phase": "split",
        "form": 1,
    }


def test_the_only_migration_need_not_be_named(shop):
    migration(shop, "evals").set(50)

    result = shop.run("traffic", "set", "0", "--json")

    assert json.loads(result.stdout)["migration"] == "evals"
    assert migration(shop, "evals").traffic().percent == 0


def test_of_several_one_must_be_named(shop):
    migration(shop, "evals").set(50)
    migration(shop, "reports").set(10)

    result = shop.run("traffic", "set", "0")

    assert result.exit_code == 2
    assert "several migrations (evals, reports)" in result.stderr
    assert shop.run("traffic", "set", "0", "--name", "reports").exit_code == 0


def test_without_a_stored_share_it_says_so(shop):
    result = shop.run("traffic")

    assert result.exit_code == 1
    assert "No share is stored yet" in result.stderr


@pytest.mark.parametrize("percent", ["101", "nan"])
def test_what_is_no_percentage_is_refused(shop, percent):
    result = shop.run("traffic", "set", percent)

    assert result.exit_code == 2
    assert "from 0 to 100" in result.stderr


def test_a_finished_migration_is_left_alone(shop):
    one = migration(shop)
    one.drain()
    one.finish()

    result = shop.run("traffic", "set", "0")

    assert result.exit_code == 2
    assert "finished" in result.stderr


def test_a_share_that_cannot_be_read_is_set_again_as_the_message_says(shop):
    EngineShares(lambda: shop.engine).write("default", b"ninety")

    listed = shop.run("traffic")
    assert listed.exit_code == 2
    assert "set it again with `cicely traffic set`" in listed.stderr
    assert shop.run("traffic", "set", "90").exit_code == 0
    assert migration(shop).traffic().percent == 90


def test_a_share_that_a_newer_version_stored_is_left_alone(shop):
    EngineShares(lambda: shop.engine).write("default", b'{"percent": 5, "phase": "split", "form": 9}')

    result = shop.run("traffic", "set", "90")

    assert result.exit_code == 2
    assert "newer Cicely" in result.stderr
