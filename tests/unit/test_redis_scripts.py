"""Each verb is one script in one file, and says which keys it touches and what bounds its work."""

import re
from pathlib import Path

import pytest

from cicely.engines.redis import keys, scripts
from redis_server import shared_server

FOLDER = Path(scripts.__file__).parent
LITERAL_KEY = re.compile(r"NS \.\. '(\w+)")


@pytest.mark.parametrize("verb", scripts.verbs())
def test_a_script_begins_with_its_keys_and_the_bound_of_its_work(verb: str) -> None:
    text = (FOLDER / f"{verb}.lua").read_text(encoding="utf-8")
    comment = "".join(line for line in text.splitlines(keepends=True) if line.startswith("--"))

    assert text.startswith(f"-- {verb}: ")
    assert "Keys: " in comment
    assert "Work: " in comment


@pytest.mark.parametrize("verb", scripts.verbs())
def test_a_server_can_read_the_script(verb: str) -> None:
    script = scripts.script(verb)

    reply = shared_server().tell("SCRIPT", "LOAD", script.text.decode())

    assert reply.split(b"\r\n")[1] == script.sha


@pytest.mark.parametrize("verb", scripts.verbs())
def test_no_script_reads_a_whole_keyspace(verb: str) -> None:
    text = scripts.script(verb).text.decode()

    assert not re.search(r"'(KEYS|SCAN|SMEMBERS|FLUSH\w*)'", text.replace("'SMEMBERS', NS .. 'paused'", ""))


def test_every_key_is_listed() -> None:
    used = {name for file in FOLDER.rglob("*.lua") for name in LITERAL_KEY.findall(file.read_text())}

    listed = set(re.findall(r"\b\w+\b", keys.__doc__ or ""))

    # An ear is a channel, not a key.
    assert used - {"ear"} <= listed
