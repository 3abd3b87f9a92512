# `make demo` and `make test` set themselves up; everything else is for those who change the project.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=

.PHONY: demo test lint types bench bench-plan setup runtime lock clean

# --- the two commands -------------------------------------------------------------------------------------
demo: $(VENV)/.runtime
	@$(BIN)/depot demo $(ARGS)

test: $(VENV)/.dev
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/pytest -n 4 --dist worksteal $(ARGS)

# --- setting up: a virtual environment from the lock file, hashes checked ----------------------------------
setup: $(VENV)/.dev

runtime: $(VENV)/.runtime

$(VENV)/bin/pip:
	@echo "setting up $(VENV) (once, about a minute)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements.lock pyproject.toml | $(VENV)/bin/pip
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml | $(VENV)/bin/pip
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/.runtime

# --- for those who change the project ------------------------------------------------------------------------
lint: $(VENV)/.dev
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

types: $(VENV)/.dev
	@$(BIN)/mypy

bench: $(VENV)/.dev
	@$(BIN)/python -m tests.bench $(ARGS)

bench-plan: $(VENV)/.dev
	@$(BIN)/python -m tests.bench.plan $(ARGS)

lock: | $(VENV)/bin/pip
	@$(BIN)/pip install --quiet pip-tools
	@$(BIN)/pip-compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --strip-extras --allow-unsafe --all-build-deps --output-file requirements.lock pyproject.toml
	@$(BIN)/pip-compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --strip-extras --allow-unsafe --all-build-deps --constraint requirements.lock --extra dev --output-file requirements-dev.lock pyproject.toml

clean:
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
