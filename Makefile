# Every target does its own set-up in .venv: only Python 3.11, make and git are needed.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
UV_VERSION := 0.13.9
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export DAGSTER_DISABLE_TELEMETRY := 1

.DEFAULT_GOAL := help
.PHONY: help demo ui desk test test-long lint format bench bench-matching bench-lookups bench-payouts \
	bench-verify soak fuzz audit lock clean

help: ## List the targets.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

demo: .venv/runtime ## Simulate three services for a day and pay the month out (project in data/).
	@$(BIN)/royalty-assets demo data

ui: .venv/runtime ## Open the project in data/ in the Dagster UI, http://127.0.0.1:3000.
	@test -d data/dagster || $(MAKE) --no-print-directory demo
	@$(BIN)/royalty-assets ui data

desk: .venv/runtime ## Decide about open usage of the project in data/, http://127.0.0.1:3100.
	@test -d data/dagster || $(MAKE) --no-print-directory demo
	@$(BIN)/royalty-assets desk data

test: .venv/dev ## Run every test (DATABASE=postgresql, LAKE=s3: on servers that the tests start).
	@POLARS_MAX_THREADS=1 $(BIN)/pytest --database=$(or $(DATABASE),sqlite) --lake=$(or $(LAKE),local)

test-long: .venv/dev ## Run the tests that take minutes.
	@POLARS_MAX_THREADS=1 $(BIN)/pytest -m long

lint: .venv/dev ## Format and lint checks, types, import contracts, definitions.
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/dg check toml

format: .venv/dev ## Format the code and mend what can be mended.
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

bench: .venv/dev ## Measure the pipeline beside peers (SCALE=2 for twice the events).
	@$(BIN)/python -m benchmarks

bench-matching: .venv/dev ## Measure matching on public benchmarks beside splink (MATCHING_DATA=../shared/data).
	@test ! -d "$${MATCHING_DATA:-../shared/data}" \
		|| $(MAKE) --no-print-directory .venv/splink/installed \
		|| echo "splink could not be installed; measuring without it"
	@$(BIN)/python -m benchmarks.matching

bench-lookups: .venv/dev ## Look dirty names up in a million recordings (SCALE=0.1 for fewer).
	@$(BIN)/python -m benchmarks.lookups

bench-verify: .venv/dev ## Measure the hashing of `verify` beside plain sha256.
	@$(BIN)/python -m benchmarks.verifying

bench-payouts: .venv/dev ## Pay 1, 2.5 and 5 million ledger rows out beside DuckDB (SCALE=0.1 for fewer).
	@$(MAKE) --no-print-directory .venv/splink/installed \
		|| echo "DuckDB could not be installed; measuring without it"
	@$(BIN)/python -m benchmarks.payouts

soak: .venv/dev ## Simulate months under faults for ten minutes (SEEDS=200, FIRST_SEED=1, BUG=no_fence).
	@$(BIN)/python -m royalty_assets_tests.soak --minutes $${MINUTES:-10} \
		--first-seed $${FIRST_SEED:-1} $${SEEDS:+--seeds $$SEEDS} $${BUG:+--bug $$BUG} \
		$${GO_ON:+--go-on}

fuzz: .venv/dev ## Fuzz the report readers with atheris (FUZZ_SECONDS=60).
	@$(BIN)/uv pip install --quiet atheris
	@$(BIN)/python -m royalty_assets_tests.fuzzing -max_total_time=$${FUZZ_SECONDS:-60}

audit: .venv/uv ## Ask the advisory service about every locked dependency.
	@$(BIN)/uv tool run --quiet pip-audit==2.10.1 --strict --disable-pip --require-hashes --progress-spinner off \
		-r requirements/runtime.lock -r requirements/dev.lock

lock: .venv/uv ## Resolve the dependencies anew into requirements/.
	@UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile pyproject.toml --universal \
		--python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --quiet \
		--output-file requirements/runtime.lock
	@UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile pyproject.toml --group dev --universal \
		--python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --quiet \
		--constraints requirements/runtime.lock --output-file requirements/dev.lock

clean: ## Remove the environment, what runs wrote, and caches.
	rm -rf .venv dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	git clean -fdXq data benchmarks royalty_assets royalty_assets_tests

.venv/uv:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || { echo "Python 3.11 or newer is needed; name one with PYTHON=..."; exit 1; }
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet uv==$(UV_VERSION)
	@touch $@

.venv/runtime: .venv/uv requirements/runtime.lock pyproject.toml
	@echo "Installing into .venv ..."
	@$(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements/runtime.lock
	@$(BIN)/uv pip install --quiet --no-deps -e .
	@touch $@

.venv/dev: .venv/runtime requirements/dev.lock
	@$(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements/dev.lock
	@$(BIN)/uv pip install --quiet --no-deps -e .
	@touch $@

# A peer to measure against, in an environment of its own: the project does not need it.
.venv/splink/installed: .venv/uv
	@echo "Installing splink into .venv/splink ..."
	@$(BIN)/uv venv --quiet --allow-existing .venv/splink
	@$(BIN)/uv pip install --quiet --python .venv/splink/bin/python \
		splink==5.0.0 duckdb==2.0.1 pyarrow==26.0.1
	@touch $@
