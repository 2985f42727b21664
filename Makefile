# Each target does its own set-up in .venv; all it needs is Python >= 3.11 and make.
PYTHON ?= python3
BIN := .venv/bin
PLUGINS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))
TESTS := tests $(wildcard plugins/*/tests)
PROJECTS := pyproject.toml $(wildcard plugins/*/pyproject.toml)

.PHONY: demo test lint coverage bench clean

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
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo,test]' $(addprefix --editable ,$(PLUGINS))
	@touch .venv/.demo $@

# The peers that are timed beside graphrt; those that cannot be installed are left out.
PIP_QUIET := -m pip install --quiet --disable-pip-version-check
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
TORCH := torch==2.13.0

.venv-bench/.ready: $(PROJECTS)
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python $(PIP_QUIET) --editable . $(addprefix --editable ,$(PLUGINS))
	@for peer in "onnxruntime onnx onnxscript" jax autograd; do \
	  .venv-bench/bin/python $(PIP_QUIET) $$peer || echo "bench: without $$peer"; done
	@.venv-bench/bin/python $(PIP_QUIET) $(TORCH) --index-url $(TORCH_INDEX) || \
	  .venv-bench/bin/python $(PIP_QUIET) $(TORCH) || echo "bench: without $(TORCH)"
	@touch $@

# onnxruntime-training needs a NumPy of its own; without it that peer is left out.
.venv-bench-ort/.ready:
	@$(PYTHON) -m venv .venv-bench-ort
	@{ .venv-bench-ort/bin/python $(PIP_QUIET) "torch<2.6" --index-url $(TORCH_INDEX) || \
	  .venv-bench-ort/bin/python $(PIP_QUIET) "torch<2.6"; } && \
	  .venv-bench-ort/bin/python $(PIP_QUIET) "numpy<2" "onnx<1.17" onnxruntime-training==1.19.2 cerberus h5py || \
	  echo "bench: without onnxruntime-training"
	@touch $@
