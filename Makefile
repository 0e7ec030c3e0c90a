# One word per job; each makes what it needs. Nothing but Python 3.11 or newer has to be there.

BIN := .venv/bin
READY := .venv/.ready
USABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON = $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c '$(USABLE)' >/dev/null 2>&1 && echo "$$p" && break; done)
NO_PYTHON = No usable Python: thermocline needs 3.11 or newer with its venv module, and python3 here is \
	"$(shell python3 --version 2>&1)". Install one (Debian, Ubuntu: apt install python3.11-venv), or name one: \
	make setup PYTHON=/path/to/python3
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
UV = build/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-annotate --no-header $(UPGRADE)
LAMBDA := infra/lambda-requirements

.PHONY: help setup demo test check sim soak up bench format lock clean
.NOTPARALLEL:

help:  ## say what there is
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile

setup: $(READY)  ## make .venv with thermocline in it

demo: $(READY)  ## the whole path in a minute: send, store, query, archive, query again, check
	@$(BIN)/thermocline demo

test: $(READY)  ## every test
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

check: $(READY)  ## lint, format, types, template, docs
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/python -m pyright --pythonpath $(BIN)/python
	@$(BIN)/cfn-lint infra/template.yaml
	@$(BIN)/python -m pytest -q tests/test_docs.py

sim: $(READY)  ## a million faults and a million damaged payloads; SEED=17 replays one seed
	@[ -n "$$SEED" ] || $(BIN)/python -m tests.fuzz --payloads 1000000 --processes 2
	@$(BIN)/python -m tests.model

soak: $(READY)  ## the same without end, until a promise breaks or Ctrl-C
	@$(BIN)/python -m tests.model --forever

up: $(READY)  ## the local stack in the foreground
	@$(BIN)/thermocline up

bench: $(READY)  ## the ratio table
	@$(BIN)/python -m benchmarks

format: $(READY)  ## format, and mend what the linter can mend
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: $(READY)  ## make the locks again from pyproject.toml; UPGRADE=--upgrade for newer versions
	@$(PIP) --target build/uv --upgrade uv==0.13.9
	@$(UV) pyproject.toml --extra local --extra packed -o requirements.lock >/dev/null
	@$(UV) pyproject.toml --extra local --extra packed --extra sql --group dev \
		-c requirements.lock -o requirements-dev.lock >/dev/null
	@$(UV) --group pyproject.toml:build -o requirements-build.lock >/dev/null
	@for name in store archive api; do $(UV) $(LAMBDA)/$$name.in -o $(LAMBDA)/$$name.lock >/dev/null; done

clean:  ## remove what was made
	@rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml requirements-build.lock requirements-dev.lock
	@echo "Setting up .venv (half a minute, once)"
	@$(or $(PYTHON),$(error $(NO_PYTHON))) -m venv --clear .venv
	@$(PIP) --require-hashes -r requirements-build.lock
	@$(PIP) --require-hashes --no-build-isolation -r requirements-dev.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@
