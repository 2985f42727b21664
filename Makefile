# Each target does its own set-up in .venv; all it needs is Python >= 3.11 and make.
PYTHON ?= python3
BIN := .venv/bin
PLUGINS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))
TESTS := tests $(wildcard plugins/*/tests)
PROJECTS := pyproject.toml $(wildcard plugins/*/pyproject.toml)

.PHONY: demo test lint coverage conformance bench clean

demo: .venv/.demo  ## build, save, load, train and use a digits classifier
	$(BIN)/graphrt demo

test: .venv/.test  ## the default test suite: graphrt and the plug-ins of this repository
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal $(TESTS) $(ARGS)

lint: .venv/.test  ## style, types, import levels, generated documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/check_layers.py

coverage: .venv/.test
	$(BIN)/python -m pytest $(TESTS) --cov=graphrt --cov-report=term

conformance: .venv/.test  ## every case of ONNX's own test suite, values and gradients
	$(BIN)/python tools/onnx_conformance.py --gradients $(ARGS)

bench: .venv-bench/.ready .venv-bench-ort/.ready  ## time graphrt beside other frameworks; ARGS="--threads 1 --compare old.json"
	.venv-bench/bin/python -m tools.bench $(ARGS)

clean:
	rm -rf .venv .venv-bench .venv-bench-ort build dist graphrt-demo

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "graphrt needs Python 3.11 or newer; say which: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv .venv

.venv/.demo: $(PROJECTS) | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo]'
	@touch $@

.venv/.test: $(PROJECTS) | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo,test]' $(patsubst %,--editable './%[test]',$(PLUGINS))
	@touch .venv/.demo $@

# The peers that are timed beside graphrt; those that cannot be installed are left out. pip takes its indexes from its own
# settings: a CPU build of PyTorch is smaller than the default one. What is editable is found by its path, as what is
# installed is, and not by a finder, which takes each start of a process 14 ms.
PIP_QUIET := -m pip install --quiet --disable-pip-version-check
TORCH := torch==2.13.0

.venv-bench/.ready: $(PROJECTS)
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python $(PIP_QUIET) --config-settings editable_mode=compat --editable . $(addprefix --editable ,$(PLUGINS))
	@for peer in $(TORCH) "onnxruntime onnx onnxscript" onnxsim==0.8.1 jax autograd; do \
	  .venv-bench/bin/python $(PIP_QUIET) $$peer || echo "bench: without $$peer"; done
	@touch $@

# onnxruntime-training needs a NumPy of its own; without it that peer is left out.
.venv-bench-ort/.ready:
	$(PYTHON) -m venv .venv-bench-ort
	@.venv-bench-ort/bin/python $(PIP_QUIET) "numpy<2" $(TORCH) onnxruntime-training==1.19.2 || \
	  echo "bench: without onnxruntime-training"
	@touch $@
