"""What `python -m benchmarks compare` understands."""

import pytest
from benchmarks.compare import command
from benchmarks.compare.lines import GROUPS, QUICK
from benchmarks.compare.measures import MEASURES
from benchmarks.peers.catalogue import OURS, PEERS, peer_of


def test_without_words_everything_is_measured_three_times() -> None:
    options = command.parser().parse_args([])

    assert [peer.name for peer in options.peers] == [peer.name for peer in PEERS if peer.name != OURS]
    assert options.engines == ["sqlite", "redis", "postgres"]
    assert options.only == list(MEASURES)
    assert options.runs == 3


def test_lists_have_commas_and_cicely_takes_part_in_any_case() -> None:
    words = ["--peers", "cicely,rq,celery", "--engines", "redis", "--only", "drain,kill"]
    options = command.parser().parse_args(words)

    assert [peer.name for peer in options.peers] == ["rq", "celery"]
    assert options.only == ["drain", "kill"]


@pytest.mark.parametrize("words", [["--peers", "sidekiq"], ["--engines", "oracle"], ["--only", "speed"]])
def test_an_unknown_name_is_answered_with_the_known_ones(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command.parser().parse_args(words)

    assert f"{words[1]!r} is none of" in capsys.readouterr().err


def test_patience_may_be_given_beside_the_sizes() -> None:
    options = command.parser().parse_args(["--quick", "--patience", "240"])

    assert command.sizes_of(options).patience_s == 240
    assert command.sizes_of(options).drain == QUICK.drain


def test_each_measurement_has_a_table() -> None:
    assert {group.key for group in GROUPS} == set(MEASURES)
    lines = [line.key for group in GROUPS for line in group.lines]
    assert len(lines) == len(set(lines))


def test_systems_are_found_by_name() -> None:
    assert peer_of("rq-simple").module == "rq"
    with pytest.raises(ValueError, match="'sidekiq' is none of cicely, celery"):
        peer_of("sidekiq")
