# `make demo` and `make test` set up all they need, once, in .venv (or in the virtual environment that is active).
# PYTHON chooses the interpreter that makes the environment; PIP_ARGS is passed to every pip install.

PYTHON ?= python3
VENV := $(or $(VIRTUAL_ENV),.venv)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --retries 10 --timeout 120 $(PIP_ARGS)

.DELETE_ON_ERROR:
.PHONY: help demo test test-slow lint bench clean

help:
	@echo 'make demo       render shapes, train a small detector on them, draw what it finds (about three minutes)'
	@echo 'make test       the tests'
	@echo 'make test-slow  the tests that take long'
	@echo 'make lint       ruff and mypy'
	@echo 'make bench      the figures of docs/benchmarks.md on this machine'
	@echo 'make clean      remove .venv, caches, and what the demo and training wrote here'

demo: $(VENV)/.omnidet
	$(BIN)/python -m omnidet demo $(ARGS)

test: $(VENV)/.omnidet-test
	$(BIN)/python -m pytest $(ARGS)

test-slow: $(VENV)/.omnidet-test
	$(BIN)/python -m pytest -m slow $(ARGS)

lint: $(VENV)/.omnidet-dev
	@$(BIN)/python -m ruff check .; ruff=$$?; $(BIN)/python -m mypy && exit $$ruff

bench: $(VENV)/.omnidet
	$(BIN)/python benchmarks/rtmdet.py $(ARGS)

# Where Python comes without ensurepip (Debian without python3-venv), its own pip installs pip into the new environment.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV) 2>/dev/null || \
	  ($(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --quiet --python $(BIN)/python install pip)

# One stamp per set of extras; all are renewed when the dependencies change.
$(VENV)/.omnidet: pyproject.toml | $(BIN)/python
	$(PIP) -e .
	@touch $@

$(VENV)/.omnidet-test: pyproject.toml | $(BIN)/python
	$(PIP) -e '.[test]'
	@touch $@ $(VENV)/.omnidet

$(VENV)/.omnidet-dev: pyproject.toml | $(BIN)/python
	$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.omnidet $(VENV)/.omnidet-test

clean:
	rm -rf .venv build dist work_dirs omnidet_demo *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find omnidet tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
