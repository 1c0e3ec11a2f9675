"""`examples/embedding_index`: swaps while people search, and what its check would notice."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

import pytest
from example_runs import run_example
from examples.embedding_index import corpus, library
from examples.embedding_index.app import KEPT_VERSIONS, app, clean_up, rebuild
from examples.embedding_index.visitors import Answer, judge

from cicely.testing import inline

PASSAGES = [
    f"page-{number}: the colour of the {word} number {number}"
    for number, word in enumerate(["horse", "river", "mountain", "paper", "winter", "bottle"] * 40)
]
QUESTION = "colour of a river"


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setenv("EXAMPLE_FOLDER", str(tmp_path))
    corpus.write(PASSAGES)
    with inline(app) as world:
        yield world


def answer_of(index):
    scores, rows = index.search(QUESTION, 10)
    return Answer(
        QUESTION,
        index.version,
        rows,
        [float(score) for score in scores],
        [index.passages[row] for row in rows],
    )


def test_twenty_hot_swaps_fail_no_query_and_mix_no_versions():
    ran = run_example("embedding_index", "--passages=600", "--swaps=20", "--at-least=100")

    assert ran.code == 0, ran.said
    assert ran.table["hot swaps"] == "20"
    assert ran.table["versions among the answers"] == "21"
    assert ran.table["queries failed"] == ran.table["answers of two versions"] == "0"
    assert ran.table["versions kept, then pruned"] == "21, 18"


def test_a_promise_that_is_not_kept_is_said_and_is_an_exit_code():
    ran = run_example("embedding_index", "--passages=300", "--swaps=1", "--at-least=1e9")

    assert ran.code == 1
    assert [line for line in ran.said.splitlines() if "NOT AS PROMISED" in line] == [
        line for line in ran.said.splitlines() if line.startswith("passages per second")
    ]


def test_answers_of_one_version_are_found_right_and_complete(world):
    index = library.load(rebuild.delay().get())

    judgement = judge([answer_of(index)])

    assert (judgement.mixed, judgement.recall, judgement.answers) == ([], 1.0, 1)


@pytest.mark.parametrize("part", ["passages", "rarity", "vectors"])
def test_an_answer_from_parts_of_two_versions_is_noticed(world, part):
    first = library.load(rebuild.delay().get())
    corpus.write(PASSAGES[3::2])
    second = library.load(rebuild.delay().get())

    mixed = replace(first, **{part: getattr(second, part)}, approximate=None)
    rows = list(range(60, 70))
    scores = mixed.scores([QUESTION])[0, rows].tolist()
    answer = Answer(QUESTION, first.version, rows, scores, [mixed.passages[row] for row in rows])

    assert judge([answer]).mixed


def test_a_rebuild_is_batches_beside_each_other_then_the_index_then_the_swap(world):
    version = rebuild.delay().get()

    names = [ran.task.rpartition(".")[2] for ran in world.ran if ran.ended == "succeeded"]
    assert names[:5] == ["embed", "embed", "embed", "build_index", "swap"]
    assert library.current() == version
    assert library.load(version).passages == PASSAGES


def test_an_older_version_that_is_finished_late_is_not_swapped_in(world):
    older = library.begin(PASSAGES)
    newer = rebuild.delay().get()

    assert library.publish(older) == newer == library.current()


def test_a_day_is_24_rebuilds_288_statistics_and_one_clean_up(world):
    corpus.write(PASSAGES[:100])

    world.advance("1d")

    names = [ran.job_id.partition("@")[0] for ran in world.ran if "@" in ran.job_id]
    assert names.count("statistics") == 288
    assert len({ran.job_id for ran in world.ran if ran.job_id.startswith("rebuild@")}) == 24
    assert names.count("clean-up") == 1


def test_the_clean_up_keeps_the_newest_versions_and_the_one_that_is_served(world):
    made = [rebuild.delay().get() for _ in range(6)]
    library.write_whole(library.folder() / "CURRENT", made[0].encode())

    pruned = clean_up.delay().get()

    assert pruned == made[1:-KEPT_VERSIONS]
    assert library.versions() == [made[0], *made[-KEPT_VERSIONS:]]


if find_spec("faiss"):  # an extra, of which the environment of the tests knows nothing

    def test_with_faiss_the_answers_are_nearly_those_of_an_exact_search():
        ran = run_example("embedding_index", "--passages=1500", "--swaps=2", "--at-least=50")

        assert ran.code == 0, ran.said
        assert float(ran.table["recall of 10 (faiss, a graph)"]) >= 0.9
