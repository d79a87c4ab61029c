# Everything that is done with tq, by one word each; the environment makes itself in .venv.
#
#   make demo            show it          make check    everything below, as CI does
#   make test            the suite        make lint     style and rooms
#   make crash           kill and recover make types    mypy and pyright
#   make simulate        SEEDS=7, 1-500    make crash-report   tests/crash/REPORT.md
#   make wheel           the built wheel  make bench    where the time goes
#   make mutations       break it on purpose, and see the suite fail
#   make test ARGS="tests/unit -k retry"  PYTHON=/path/to/python3 chooses the interpreter

VENV   := .venv
BIN    := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
ARGS   ?=
SEEDS  ?= 1-1000

export PYTHON

.PHONY: help env demo test crash simulate crash-report mutations lint format types wheel cover check bench clean

help:
	@sed -n 's/^#   //p' Makefile

# Two stamps, because a first look should not have to wait for the checkers.
$(VENV)/.made-cli $(VENV)/.made-dev: pyproject.toml .ci/env
	@.ci/env $(patsubst $(VENV)/.made-%,%,$@)

env: $(VENV)/.made-dev
	@:

demo: $(VENV)/.made-cli
	$(BIN)/tq demo $(ARGS)

# Random order comes from pytest-randomly; idle workers steal, because a port's suites differ a lot in length.
test: env
	$(PYTEST) -n auto --dist worksteal $(ARGS)

# One at a time: these tests measure how long a recovery takes. Exit code 5 says that there are none (yet).
# First those that take no real time, side by side.
crash: env
	@$(PYTEST) -m "crash and simulated" -n auto --dist worksteal $(ARGS) || { code=$$?; [ $$code -eq 5 ] || exit $$code; }
	@$(PYTEST) -m "crash and not simulated" $(ARGS) || { code=$$?; [ $$code -eq 5 ] || exit $$code; }

# Seeds as 7, or 1-500; one that fails is printed as the command that plays it again.
simulate: env
	@$(BIN)/python -m tests.crash seeds $(SEEDS)

crash-report: env
	@$(BIN)/python -m tests.crash report

# Words choose mutants by name: make mutations ARGS="deadline".
mutations: env
	$(BIN)/python -m tests.house.mutations $(ARGS)

lint: env
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo

format: env
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

types: env
	$(BIN)/mypy
	$(BIN)/pyright

wheel: env
	$(PYTEST) -m wheel $(ARGS)

cover: env
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n auto --dist worksteal $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

check: lint types test wheel mutations crash

bench: env
	$(BIN)/python -m bench $(ARGS)

clean:
	rm -rf $(VENV) dist build htmlcov .coverage .coverage.* .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find tq adapters tests bench examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
