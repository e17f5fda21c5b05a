# Needs Python 3.10+ with venv and pip, and make; everything else is installed below this folder.
# Another interpreter: make PYTHON=python3.13 test

PYTHON ?= python3
BIN := .venv/bin
# Options for pytest: make test ARGS="-k receiver"
ARGS ?=
# Cells for the matrix: make test-matrix CELLS="3.10:oldest"
CELLS ?=

.PHONY: catalogue collector help demo test test-fast test-matrix lint fmt readme requirements env clean

help:
	@echo "make demo         a small design studio with traces and issues in this terminal"
	@echo "make test         all tests, on $(PYTHON), newest dependencies"
	@echo "make test-fast    the tests that start no server"
	@echo "make test-matrix  all tests, on several Pythons and dependency sets"
	@echo "make collector    build an OpenTelemetry Collector for its tests (needs Go)"
	@echo "make lint         ruff and mypy;  make fmt: format;  make readme: the settings tables"
	@echo "make catalogue    write collector-config/generated/ anew"
	@echo "make requirements resolve requirements/*.txt anew;  make clean: remove all that was made"

env:
	@$(PYTHON) scripts/env.py .venv requirements/newest.txt

demo: env
	@$(BIN)/otel-sentry demo

# What failed is run once more, alone: the tests start dozens of real servers, and a busy machine may be slow to answer.
test: env
	@$(BIN)/python -m pytest $(ARGS) || { \
		echo "== once more, what failed"; $(BIN)/python -m pytest --last-failed --last-failed-no-failures none $(ARGS); }

test-fast: env
	@$(BIN)/python -m pytest -m "not services and not slow" $(ARGS)

test-matrix:
	@$(PYTHON) scripts/matrix.py $(CELLS) -- $(ARGS)

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fmt: env
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

readme: env
	$(BIN)/python scripts/readme.py

catalogue: env
	$(BIN)/python scripts/catalogue.py

# An OpenTelemetry Collector in .cache/otelcol, for the tests of collector-config/.
collector:
	@$(PYTHON) scripts/collector.py

requirements:
	@PYTHON=$(PYTHON) scripts/requirements.sh

clean:
	rm -rf .venv .venvs .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find otel_sentry instrumentation tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
