# `make demo` and `make test` set themselves up; everything else is for those who change the project.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=

.PHONY: demo test lint types bench soak bench-plan setup runtime lock wheelhouse deb debian-root test-deb clean

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

soak: $(VENV)/.dev
	@$(BIN)/python tests/laws/soak.py $(ARGS)

bench-plan: $(VENV)/.dev
	@$(BIN)/python -m tests.bench.plan $(ARGS)

lock: | $(VENV)/bin/pip
	@$(BIN)/pip install --quiet pip-tools
	@$(BIN)/pip-compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --strip-extras --allow-unsafe --all-build-deps --output-file requirements.lock pyproject.toml
	@$(BIN)/pip-compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --strip-extras --allow-unsafe --all-build-deps --constraint requirements.lock --extra dev --output-file requirements-dev.lock pyproject.toml

# --- the package: built and installed without a network once the wheelhouse is there ---------------------------
VERSION ?= $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

wheelhouse: .build/wheelhouse/.complete

.build/wheelhouse/.complete: requirements.lock | $(VENV)/bin/pip
	@rm -rf .build/wheelhouse
	@$(BIN)/pip download --quiet --disable-pip-version-check --only-binary :all: --require-hashes -r requirements.lock -d .build/wheelhouse
	@touch $@

deb: wheelhouse $(VENV)/.runtime
	@systemd/build-deb $(VERSION) $(BIN)/python

# a clean Debian 12, made once (as root, from a mirror) and kept for every clone; remove the file for a newer one
DEBIAN := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/depot/debian-12.tar

debian-root: $(DEBIAN)

$(DEBIAN):
	@rm -rf .build/debian && mkdir -p .build $(@D)
	@debootstrap --variant=minbase --include=python3-venv,systemd bookworm .build/debian > .build/debootstrap.log 2>&1
	@tar --numeric-owner -C .build/debian -cf $@.new . && mv $@.new $@ && rm -rf .build/debian

test-deb: wheelhouse $(VENV)/.dev
	@DEPOT_DEBIAN=$(DEBIAN) $(BIN)/pytest -m deb -n 2 --dist worksteal -rs tests/house/test_package.py $(ARGS)

clean:
	@rm -rf .build $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
