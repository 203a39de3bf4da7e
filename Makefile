# Everything sets itself up: the first target that needs it makes .venv and installs what pyproject.toml asks for.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-all lint format bench bench-report floor clean

demo: $(READY) ## Remember a conversation through both frameworks, restart, answer again, say why
	$(BIN)/python examples/demo.py

test: $(READY) ## Every test, slow suites in their small form
	$(BIN)/python -m pytest -m "not full"

test-all: $(READY) ## The same with the slow suites in their full form
	$(BIN)/python -m pytest

lint: $(READY) ## Style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) ## The benchmarks behind docs/benchmarks.md
	$(BIN)/python -m benchmarks.evidence
	$(BIN)/python -m benchmarks.attribution
	$(BIN)/python -m benchmarks.learning
	$(BIN)/python -m benchmarks.recall_speed
	$(BIN)/python -m benchmarks.ingest
	$(BIN)/python -m benchmarks.audit
	$(BIN)/python -m benchmarks.scale --sizes 1000,10000 --scopes 1000
	$(BIN)/python -m benchmarks.capacity
	$(BIN)/python -m benchmarks.consolidation
	$(BIN)/python -m benchmarks.evolution
	$(BIN)/python -m benchmarks.gaps
	$(BIN)/python -m benchmarks.hooks
	$(BIN)/python -m benchmarks.supersession
	$(BIN)/python -m benchmarks.poisoning
	$(BIN)/python -m benchmarks.tripwire
	$(BIN)/python -m benchmarks.secrets
	$(BIN)/python -m benchmarks.scaling

DATA ?= ../shared/data/locomo-dev.json
PEERS ?= --peer all
bench-report: $(READY) ## The comparison in docs/benchmarks.md; PEERS="--peer all --peer mem0-qdrant --peer-env DIR" adds others
	$(BIN)/engram bench $(DATA) --adds one $(PEERS) --report docs/benchmarks.md

floor: ## The tests on the oldest dependencies the code supports, in an environment of their own
	$(MAKE) VENV=.venv-floor CONSTRAINTS=.ci/floor.txt test

CONSTRAINTS ?= .ci/constraints.txt
$(READY): pyproject.toml $(CONSTRAINTS)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Setting up $(VENV); this takes a minute the first time."
	@$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable ".[dev]"
	@touch $@

clean:
	rm -rf .venv .venv-floor .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
