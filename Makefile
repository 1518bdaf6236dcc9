# Everything starts here, and needs nothing but make and Python >= 3.11.
# `make` alone lists the targets.

PYTHON ?= python3
UV ?= uv
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup serve demo figure test test-clients test-vocabularies kill check format fuzz bench soak lock clean

help: ## list the targets
	@echo "Usage: make TARGET [ARGS='...']"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## create .venv with the locked versions and this package

# The stamp makes set-up run again exactly when what it installs from has changed.
$(READY): requirements/dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Turnwire needs Python >= 3.11; say which: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

serve: $(READY) ## serve; ARGS="--port 9000" for options
	$(BIN)/turnwire serve $(ARGS)

demo: $(READY) ## one agent loop over HTTP and over WebSocket, compared
	$(BIN)/turnwire demo $(ARGS)

# On a quiet machine: the times are told as they were.
figure: $(READY) ## play the demo, and put its numbers into the figure and the pages
	$(BIN)/turnwire demo --json $(ARGS) > docs/figures/turn-cost.json.new
	mv docs/figures/turn-cost.json.new docs/figures/turn-cost.json
	$(BIN)/python tools/draw_turn_cost.py docs/figures/turn-cost.json docs/figures/turn-cost.svg
	$(BIN)/python -m tools.tell_turn_cost

test: $(READY) ## every test; ARGS="-k lane" to choose
	$(BIN)/pytest -n auto $(ARGS)

# The table in the docs is what this saw, so a run of them all writes it.
test-clients: $(READY) ## install real clients, let each talk to a server (needs npm); ARGS="-k codex"
	$(BIN)/pytest tests/clients --timeout 900 --matrix docs/reference/clients.md $(ARGS)

test-vocabularies: $(READY) ## templates over real vocabularies, which it installs; ARGS="-k harmony"
	$(BIN)/pytest tests/vocabularies --timeout 600 $(ARGS)

# Each seed kills a server four times, at moments that the seed decides.
kill: $(READY) ## kill servers with work running, check what is left; SEEDS=200 for more
	KILL_SEEDS=$(or $(SEEDS),40) $(BIN)/pytest -n auto tests/integration/test_kill.py $(ARGS)

check: $(READY) ## lint, format and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(READY) ## mend what can be mended
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

fuzz: $(READY) ## attack what strangers reach; ARGS="codec --seconds 60" to choose
	$(BIN)/python -m fuzz $(ARGS)

bench: $(READY) ## measure; ARGS for options
	$(BIN)/python -m bench $(ARGS)

soak: $(READY) ## thousands of connections for minutes; ARGS="--seconds 600"
	$(BIN)/python -m bench soak $(ARGS)

# No index URL goes into the files: whoever installs chooses where from, the hashes say what.
COMPILE := $(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-emit-package turnwire

lock: ## resolve the versions anew (needs uv; ARGS="--upgrade" for newer ones)
	$(COMPILE) $(ARGS) --extra dev --output-file requirements/dev.lock pyproject.toml
	$(COMPILE) --constraint requirements/dev.lock --output-file requirements/runtime.lock pyproject.toml

clean: ## remove .venv, caches and build results
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
	find src tests bench fuzz tools -name __pycache__ -type d -prune -exec rm -rf {} +
