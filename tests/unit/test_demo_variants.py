"""The programs of the demo: which of them pass, and what was done to the others."""

import multiprocessing
from collections import Counter

import pytest

from cicely.cli.demonstration.grading import PASSED, verdict
from cicely.cli.demonstration.plan import candidates
from cicely.cli.demonstration.problems import Problem, humaneval, read
from cicely.cli.demonstration.variants import Variant, program, variants_of
from cicely.errors import Cancelled, ConfigError


def problem(solution, *, test="", entry_point="f", task_id="Own/0"):
    check = f"def check(candidate):\n    {test or 'pass'}\n"
    return Problem(task_id, "", entry_point, solution, check)


def graded(one, variant):
    return verdict(program(one, variant), one.test, one.entry_point)


def verdicts_on(variant):
    """Grade one variant of every problem of HumanEval in another process."""
    problems = read(humaneval())
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.starmap_async(graded, [(one, variant) for one in problems])
        return found.get(timeout=60)


def test_every_right_solution_of_humaneval_passes():
    assert verdicts_on(Variant.RIGHT) == [PASSED] * 164


def test_every_off_by_one_solution_of_humaneval_fails_its_test():
    verdicts = verdicts_on(Variant.OFF_BY_ONE)

    assert [one.partition(":")[0] for one in verdicts] == ["AssertionError"] * 164


@pytest.mark.parametrize(
    "value",
    ["True", "False", "0", "2.5", "'x'", "''", "[1]", "[]", "(1, 2)", "()", "{}", "{1}", "b'x'", "None"],
)
def test_off_by_one_changes_whatever_a_function_returns(value):
    one = problem(f"def f():\n    return {value}\n", test=f"assert candidate() == {value}")

    assert graded(one, Variant.RIGHT) == PASSED
    assert graded(one, Variant.OFF_BY_ONE) != PASSED


def test_off_by_one_leaves_the_course_of_a_recursion_alone():
    recursive = "def f(n):\n    return 0 if n == 0 else 1 + f(n - 1)\n"
    one = problem(recursive, test="assert candidate(5) == 6")

    assert graded(one, Variant.OFF_BY_ONE) == PASSED


@pytest.mark.parametrize(
    ("variant", "first_line"),
    [
        (Variant.ENDLESS, "    while True:"),
        (Variant.HOG, "    hoard = []"),
        (Variant.EXIT, "    import os"),
    ],
)
def test_a_wild_variant_runs_wild_before_the_functions_first_statement(variant, first_line):
    one = problem('def f(x):\n    """Words."""\n    return x\n')

    lines = program(one, variant).splitlines()

    assert lines[:3] == ["def f(x):", '    """Words."""', first_line]
    assert lines[-1] == "    return x"


def test_of_several_definitions_the_last_one_is_changed():
    one = problem("def f():\n    return 1\ndef f():\n    return 2\n")

    lines = program(one, Variant.ENDLESS).splitlines()

    assert lines.index("    while True:") > lines.index("    return 1")


def test_hogs_and_exits_take_turns():
    wild = [variants_of(number)[3] for number in range(4)]

    assert wild == [Variant.HOG, Variant.EXIT, Variant.HOG, Variant.EXIT]


def test_humaneval_makes_656_programs_with_ids_of_their_own():
    programs = candidates(read(humaneval()))

    assert len({one.job_id for one in programs}) == 656
    assert Counter(one.variant for one in programs) == {
        Variant.RIGHT: 164,
        Variant.OFF_BY_ONE: 164,
        Variant.ENDLESS: 164,
        Variant.HOG: 82,
        Variant.EXIT: 82,
    }


def test_an_id_can_name_a_file_whatever_the_problem_is_called():
    ids = [one.job_id for one in candidates([problem("def f(): pass", task_id="../a b/é\n" * 99)])]

    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for name in ids)
    assert all(len(name) < 200 for name in ids)


@pytest.mark.parametrize(
    ("solution", "sentence"),
    [
        ("def f(:", "Own/0: .* no Python program"),
        ("def g(): pass", "Own/0: .* define no function f"),
        ("f = 1", "define no function f"),
        ("\0", "no Python program"),
    ],
)
def test_a_solution_that_is_no_such_function_is_refused(solution, sentence):
    with pytest.raises(ConfigError, match=sentence):
        candidates([problem(solution)])


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("def f(:", "SyntaxError"),
        ("class E(Exception):\n    def __str__(self): 1 / 0\nraise E", "E"),
    ],
)
def test_whatever_a_program_raises_is_an_answer(solution, answer):
    assert verdict(solution, "", "f").startswith(answer)


def test_a_cancellation_is_no_answer():
    with pytest.raises(Cancelled):
        verdict("from cicely.errors import Cancelled\nraise Cancelled", "", "f")


def test_programs_do_not_see_each_other():
    verdict("leaked = 1\ndef f(): pass", "def check(f): pass", "f")

    assert verdict("leaked", "", "f").startswith("NameError")
