# Everything a developer or a curious operator needs; Python 3.11 and make are enough to start with.
#
#   make demo    the daemon's whole main job on this machine, in about a minute
#   make test    lint, types, and every test
#   make dev     an embedded PostgreSQL, plugin and daemon to try things on
#   make bench   the table of measured rates (ARGS="--quick", "--only sweep", "--reladiff install", …)
#   make images  draw the dashboards and the console into docs/images (needs Debian's packages prometheus and chromium)
#   make soak    half an hour of everything at once, with planted faults; writes docs/soak.md (MINUTES=2 for a try)

PYTHON ?= python3
VENV   ?= .venv
WORKERS ?= 3
UV     ?= uv
BIN    := $(VENV)/bin
LOCKED := $(VENV)/.locked
READY  := $(VENV)/.ready
REPORT := build/junit.xml
MINUTES ?= 30

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test dev bench images soak lint types format unit lock clean install
.DEFAULT_GOAL := demo

demo: $(READY)
	@$(BIN)/cutover demo

test: $(READY) lint types
	@mkdir -p $(dir $(REPORT))
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --junitxml=$(REPORT) $(ARGS)

dev: $(READY)
	@$(BIN)/cutover dev

bench: $(READY)
	$(BIN)/python -m benchmarks $(ARGS)

images: $(READY)
	$(BIN)/python -m dashboards.render $(ARGS)
	$(BIN)/python -m dashboards.console_images

soak: $(READY)
	$(BIN)/python -m cutover.embedded.soak --minutes $(MINUTES) --report docs/soak.md $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

unit: $(READY)
	$(BIN)/python -m pytest tests/unit $(ARGS)

install: $(READY)

# The locked dependencies, each checked against its hash. Nothing else is ever installed.
$(LOCKED): requirements/dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "cutover needs Python 3.11 or newer; $(PYTHON) is `$(PYTHON) -V`. Try: make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.lock
	@touch $@

# The project itself, in place; its build tool is among the locked ones.
$(READY): $(LOCKED) pyproject.toml
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

# Resolve again. The files name versions and hashes, and no index: whoever installs brings their own.
COMPILE := $(UV) pip compile pyproject.toml --generate-hashes --no-emit-index-url --no-header --universal \
           --python-version 3.11 --quiet
lock:
	$(COMPILE) --extra dev --extra embedded -o requirements/dev.lock
	$(COMPILE) --no-annotate -c requirements/dev.lock -o requirements/runtime.lock
	echo hatchling | $(subst pyproject.toml,-,$(COMPILE)) --no-annotate -c requirements/dev.lock -o requirements/build.lock

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
