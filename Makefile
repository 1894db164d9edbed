# `make run` and `make test` need git, make and Python 3.10 to 3.13; whatever else they need, they put into .venv.
# Another Python: make PYTHON=python3.12 test

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/made-for
LOG := $(VENV)/install.log
RUFF := --config configuration/ruff.toml code chains tests $(wildcard benchmarks)

.PHONY: help run test check stress bench s3 remake
.SUFFIXES:
MAKEFLAGS += --no-print-directory

help:
	@echo "make run      run the example chain etl/flights_chain"
	@echo "make test     run the tests"
	@echo "make check    lint, types, import contracts"
	@echo "make stress   run the tests that take minutes"
	@echo "make bench    measure"
	@echo "make s3       start an S3 server to try chains with, and say which variables to set"

run: $(STAMP)
	@$(BIN)/nectar run etl/flights_chain ReportTask

test: $(STAMP)
	@$(BIN)/python tests/in_halves.py

stress: $(STAMP)
	@$(BIN)/python -m pytest -m "stress or hypothesis" --hypothesis-profile=stress

bench: $(STAMP)
	@$(BIN)/python benchmarks/run.py

s3: $(STAMP)
	@$(BIN)/python tests/servers/try_s3.py

check: $(STAMP)
	@$(BIN)/ruff check $(RUFF)
	@$(BIN)/ruff format --check $(RUFF)
	@$(BIN)/mypy --strict --config-file setup.cfg
	@$(BIN)/lint-imports --no-logo --cache-dir .mypy_cache/import_linter

# A virtual environment knows the folder it was made in: one that came here by a copy or a move would run the code of
# the other place. The stamp holds the folder's name.
ifneq ($(shell test -x $(BIN)/python && cat $(STAMP) 2>/dev/null),$(CURDIR))
$(STAMP): remake
endif

# The pinned setuptools comes first and builds the rest, so that no unpinned one is fetched for it.
$(STAMP): setup.cfg pyproject.toml configuration/requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || { \
	    echo "error: Nectar needs Python 3.10 to 3.13, and $(PYTHON) is $$($(PYTHON) -V 2>&1)" >&2; \
	    echo "hint: name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "making $(VENV), once" >&2
	@$(PYTHON) -m venv --clear $(VENV)
	@export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_USE_PEP517=1; { \
	    $(BIN)/pip install --constraint configuration/requirements.txt setuptools && \
	    $(BIN)/pip install --no-build-isolation --no-deps -r configuration/requirements.txt && \
	    $(BIN)/pip install --no-build-isolation --no-deps -e . ; \
	} >$(LOG) 2>&1 || { cat $(LOG) >&2; exit 1; }
	@printf '%s\n' '$(CURDIR)' >$(STAMP)
