"""The URL of a database: Cicely's own options, libpq's, and what may be shown."""

import pytest

from cicely.engines.connect import connect
from cicely.engines.postgres.address import Address
from cicely.errors import ConfigError

URL = "postgresql://ann:s%40cret@db.example:6432/jobs"


def test_a_url_names_host_port_database_and_schema():
    address = Address(f"{URL}?schema=evals")

    assert address.shown == "postgresql://db.example:6432/jobs?schema=evals"


def test_the_password_is_not_shown():
    address = Address(URL)

    assert "cret" not in address.shown
    assert address.scrubbed("it was s@cret or s%40cret") == "it was *** or ***"


def test_options_of_libpq_are_handed_on():
    address = Address(f"{URL}?sslmode=require&durability=none")

    assert "sslmode=require" in address.conninfo
    assert "durability" not in address.conninfo


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("durability=sometimes", "durability='sometimes'"),
        ("schema=Robert%27)", 'schema="Robert'),
        ("pooler=yes", "pooler='yes'"),
        ("sslmood=require", "libpq does not know"),
    ],
)
def test_a_wrong_option_is_refused_with_a_remedy_and_without_the_password(option: str, named: str):
    with pytest.raises(ConfigError) as refusal:
        connect(f"{URL}?{option}")

    assert named in str(refusal.value)
    assert "cret" not in str(refusal.value)


def test_a_postgresql_url_is_not_connected_to_before_it_is_opened():
    assert connect("postgresql://nobody@127.0.0.1:1/none") is not None
