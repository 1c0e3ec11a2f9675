"""A redis:// URL says where jobs are; nothing that is shown of it holds the password."""

import pytest

from cicely.engines.connect import connect, redacted
from cicely.engines.redis.place import Place, place_of
from cicely.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", Place(targets=(("localhost", 6379),))),
        ("redis://db1:7000/3", Place(targets=(("db1", 7000),), db=3)),
        ("redis://[::1]:7000", Place(targets=(("::1", 7000),))),
        ("redis://:s%40cret@db1", Place(targets=(("db1", 6379),), password="s@cret")),
        ("redis://ann:secret@db1", Place(targets=(("db1", 6379),), user="ann", password="secret")),
        ("redis://db1?namespace=evals", Place(targets=(("db1", 6379),), namespace="evals")),
        ("redis://db1?durability=none", Place(targets=(("db1", 6379),), durability="none")),
        ("redis://db1?allow_eviction=1", Place(targets=(("db1", 6379),), allows_eviction=True)),
        ("redis://db1?timeout=0.5", Place(targets=(("db1", 6379),), timeout_s=0.5)),
        ("rediss://db1?tls_ca=/ca.pem", Place(targets=(("db1", 6379),), is_tls=True, tls_ca="/ca.pem")),
        (
            "redis+sentinel://a,b:26000/mymaster/2",
            Place(targets=(("a", 26379), ("b", 26000)), service="mymaster", db=2),
        ),
    ],
)
def test_a_url_is_read(url: str, expected: Place) -> None:
    assert place_of(url) == expected


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("redis://db1/jobs", "the path is the number of a database"),
        ("redis://db1/0/1", "the path is the number of a database"),
        ("redis://db1:x", "a port is no number"),
        ("redis://a,b/0", "several hosts go with redis\\+sentinel"),
        ("redis+sentinel://a,b", "names the service first"),
        ("redis://db1?durability=often", "choose one of power, process, none"),
        ("redis://db1?namespace=a}b", "namespace= has letters"),
        ("redis://db1?allow_eviction=yes", "write 1 or 0"),
        ("redis://db1?timeout=0", "number of seconds above 0"),
        ("redis://db1?timeout=nan", "number of seconds above 0"),
        ("redis://db1?tls_ca=/ca.pem", "tls_ options go with rediss"),
        ("redis://db1?durabilty=none", "unknown option 'durabilty'; redis takes allow_eviction, durability"),
        ("redis://:pa#ss@db1", "%23 for a # in a password"),
        ("redis://:pa@ss:x@db1:y", "%40 for an @ in a password"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_with_its_remedy(url: str, remedy: str) -> None:
    with pytest.raises(ConfigError, match=remedy):
        connect(url)


SECRET = "hunter2"


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{SECRET}@db1/x",
        f"redis://:{SECRET}#@db1",
        f"redis://:{SECRET}/@db1:y",
        f"redis://:{SECRET}@db1:y",
        f"redis://ann:{SECRET}@db1?durability=often",
        f"redis://db1?password={SECRET}",
        f"rediss+sentinel://:{SECRET}@a:1,b:x/m",
    ],
)
def test_no_refusal_shows_the_password(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        connect(url)

    assert SECRET not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    "url", [f"redis://:{SECRET}@db1", f"redis://:{SECRET}#@db1", f"redis://a:{SECRET}/@db1"]
)
def test_a_redacted_url_shows_no_password(url: str) -> None:
    assert SECRET not in redacted(url)


def test_a_place_shows_no_password() -> None:
    place = place_of(f"redis://ann:{SECRET}@db1/0")

    assert SECRET not in repr(place)
    assert place.address == "redis://db1:6379/0 (cicely)"
