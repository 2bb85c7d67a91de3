# Each target works from a bare clone: .venv is made when it is missing, and again when pyproject.toml changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# One more than there are cores: some tests wait for a clock or a browser.
WORKERS := $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 1)')

.PHONY: setup demo pictures screenshots test soak coverage lint bench bench-full bench-pictures interop inspection conformance ledger diagnosis ecosystem cpython renewals clean

setup: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.13")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable '.[cli]' --group test --group lint
	touch $@

demo: $(STAMP)
	$(BIN)/python -m pellucid demo

# The pictures of the documents, drawn by the code that draws the live page.
pictures: $(STAMP)
	$(BIN)/python -m tests.support.pictures

# Under five minutes on two cores. The tests start hundreds of programs: what is compiled once is kept, whatever the
# environment says.
test: $(STAMP)
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow" $(ARGS)

# The same tests and the long ones, with twenty times the examples wherever bytes are made up.
soak: $(STAMP)
	PELLUCID_SOAK=1 $(BIN)/python -m pytest -n auto --dist worksteal --timeout=3600 $(ARGS)

# Takes more than twice as long as the tests alone.
coverage: $(STAMP)
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow" --cov --cov-report=term $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Speed as a ratio to stdlib ssl, everything that has a floor; fails below one. The peers are the dependency group
# `bench`, a part of `test`.
bench: $(STAMP)
	$(BIN)/python -m bench $(ARGS)

# Every peer, suite and cost.
bench-full: $(STAMP)
	$(BIN)/python -m bench --full $(ARGS)

# The tables and pictures of docs/performance.md, measured with this Python and PYTHONS, which have the same packages.
bench-pictures: $(STAMP)
	mkdir -p docs/performance
	set -e; for python in $(BIN)/python $(PYTHONS); do \
	    PYTHONPATH=src:. $$python -m bench --full --no-gate --json docs/performance $(ARGS); done
	$(BIN)/python -m bench pictures docs/performance/*.json

interop: $(STAMP)
	$(BIN)/python -m tests.interop.matrix $(ARGS)

# Every fault of a server, and what we and others say of it.
diagnosis: $(STAMP)
	$(BIN)/python -m tests.diagnosis $(ARGS)

inspection: $(STAMP)
	$(BIN)/python -m tests.interop.inspection $(ARGS)

# Libraries × what they do over TLS, each cell against a real server or client.
ecosystem: $(STAMP)
	$(BIN)/python -m tests.ecosystem $(ARGS)

# A certificate renewed 100 times under 200 connections a second.
renewals: $(STAMP)
	$(BIN)/python -m tests.operations.renewals $(ARGS)

# CPython's own test_ssl, as it stands, with our context in place of its own.
cpython: $(STAMP)
	$(BIN)/python -m tests.cpython $(ARGS)

ledger: $(STAMP)
	$(BIN)/python -m tests.support.musts $(ARGS)

# BOGO_RUNNER: the binary of BoringSSL's TLS test runner; it is not part of this repository.
conformance: $(STAMP)
	$(BIN)/python -m tests.conformance.run --runner "$(BOGO_RUNNER)" $(ARGS)

# The live page in Chromium: desktop, phone, dark.
screenshots: $(STAMP)
	$(BIN)/python -m tests.web.screenshots $(or $(FOLDER),screenshots)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
