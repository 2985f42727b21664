# Each target does its own set-up in .venv; all it needs is Python >= 3.11 and make.
PYTHON ?= python3
BIN := .venv/bin
PLUGINS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))
TESTS := tests $(wildcard plugins/*/tests)
PROJECTS := pyproject.toml $(wildcard plugins/*/pyproject.toml)

.PHONY: demo test lint coverage clean

demo: .venv/.demo  ## build, save, load, train and use a digits classifier
	$(BIN)/graphrt demo

test: .venv/.test  ## the default test suite: graphrt and the plug-ins of this repository
	$(BIN)/python -m pytest $(TESTS) $(ARGS)

lint: .venv/.test  ## style, types, import levels, generated documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/check_layers.py

coverage: .venv/.test
	$(BIN)/python -m pytest $(TESTS) --cov=graphrt --cov-report=term

clean:
	rm -rf .venv build dist graphrt-demo

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "graphrt needs Python 3.11 or newer; say which: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv .venv

.venv/.demo: $(PROJECTS) | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo]'
	@touch $@

.venv/.test: $(PROJECTS) | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo,test]' $(addprefix --editable ,$(PLUGINS))
	@touch .venv/.demo $@
