# Two commands for a newcomer, neither of which asks for anything but Python 3.11 or later:
#
#   make demo    runs 656 programs, wild ones among them, and shows that none was lost
#   make test    runs what CI runs
#
# Each makes .venv the first time and brings it up to date when the dependencies changed.

PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test format-check lint types imports tests format constraints torture simulation bench example-embedding example-pipeline example-evaluation clean

help:
	@sed -n 's/^#   //p' Makefile

demo: .venv/demo.stamp
	$(BIN)/cicely demo

test: format-check lint types imports tests

# ------------------------------------------------------------------ the steps of `make test`

# One after the other, also under `make -j`: the first that fails is the one to read.
.NOTPARALLEL:

format-check: .venv/dev.stamp
	$(BIN)/ruff format --check .

lint: .venv/dev.stamp
	$(BIN)/ruff check .

types: .venv/dev.stamp
	$(BIN)/mypy --strict src $(wildcard tests/typing)

imports: .venv/dev.stamp
	$(BIN)/lint-imports --no-cache

tests: .venv/dev.stamp
	$(BIN)/python -m pytest

# ------------------------------------------------------------------ the environment

# The pins hold for the build backend, too; pip reads them for that from one of these two variables.
.venv/%.stamp: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing cicely[$*] into .venv"
	@PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$*]'
	@touch $@

$(BIN)/python:
	@$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }  # half an environment would pass for one

# ------------------------------------------------------------------ for those who work on Cicely

format: .venv/dev.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Write down what is installed now, after a dependency was added or raised by hand.
constraints: $(BIN)/python
	$(BIN)/python -m pip freeze --exclude-editable | LC_ALL=C sort -f > constraints.new
	mv constraints.new constraints.txt

# Each engine in turn, the servers from wheels. MINUTES and ENGINES may be given: make torture ENGINES=redis
MINUTES ?= 2
ENGINES ?= sqlite redis postgresql
torture: .venv/dev.stamp simulation
	CICELY_FULL=1 $(BIN)/python -m pytest tests/system/test_crash_loop.py tests/system/test_crash_workflows.py \
		tests/system/test_flow_kills.py tests/conformance/test_sentinel.py
	CICELY_FULL=1 $(BIN)/python -m pytest -s -o faulthandler_timeout=0 tests/system/test_example_torture.py
	$(BIN)/python -m cicely.testing.torture $(ENGINES) --minutes $(MINUTES)

# So many simulated days of three workers (about a third of a second of one core each).
SEEDS ?= 20000
simulation: .venv/dev.stamp
	$(BIN)/python -m cicely.testing.cluster --seeds $(SEEDS) --jobs $$(nproc)

# They need little beside Cicely itself, and run on SQLite or on what CICELY_URL names.
example-embedding: .venv/examples.stamp
	$(BIN)/python -m examples.embedding_index

example-pipeline: .venv/examples.stamp
	$(BIN)/python -m examples.evaluation_pipeline

example-evaluation: .venv/evaluation.stamp
	$(BIN)/python -m examples.code_evaluation $(WORDS)

# Cicely beside the raw loops, then beside its peers, which install into .venv-peers the first time.
# COMPARE may be given: make bench COMPARE="--engines redis --peers celery,rq --quick"
COMPARE ?=
bench: .venv/dev.stamp
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks compare $(COMPARE)

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
