# `make demo`, `make test`, `make check` work in a fresh clone: the environment is made on the way.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help demo test test-rest test-all check lint types fuzz clean

help:
	@echo "make demo      train a small network on handwritten digits, halve it, write report/report.html"
	@echo "make test      run the tests: every claim, with some of its cases"
	@echo "make test-all  run the tests with all cases, more than CI does"
	@echo "make check     lint, types and tests"
	@echo "make fuzz      10,000 random architectures and plans; resumable"
	@echo "make clean     remove the environment and what was made"

# torch comes first and by itself: its CPU build is used where one is at hand.
$(VENV)/.installed: pyproject.toml requirements-dev.txt requirements-trainers.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "deadhead needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements-dev.txt)"
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r requirements-trainers.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/deadhead demo --out report

# tests/conftest.py keeps the tests of a file, or of an architecture of the zoo, in one process, to share what they trace.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

test: $(VENV)/.installed
	$(PYTEST) -m "not exhaustive"

test-rest: $(VENV)/.installed
	$(PYTEST) -m "exhaustive and not long"

test-all: $(VENV)/.installed
	$(PYTEST)

# Random architectures, several plans for each; goes on where it was stopped. CASES=10000 takes about a quarter of an hour.
CASES ?= 10000
fuzz: $(VENV)/.installed
	$(BIN)/python tests/fuzz/run.py --cases $(CASES) --workers 2 --state .fuzz/state.json
	$(BIN)/python tests/fuzz/run.py --masked --cases $$(($(CASES) / 10)) --workers 2 --state .fuzz/masked.json

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/mypy

check: lint types test

clean:
	rm -rf $(VENV) report .mypy_cache .ruff_cache .pytest_cache
