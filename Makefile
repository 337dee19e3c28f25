# Every target says what it does: `make help`.
.DEFAULT_GOAL := help
.PHONY: help bootstrap demo up test check verify format lock clean bench-ingest bench-webhooks bench-billing bench-api bench-indexes bench-accounts bench-backtest
SHELL := /bin/sh
PACKAGES := billing models gateway tasks worker web cli sandbox migrations benchmarks tests
RUN := .venv/bin

help: ## Explain every target
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# A name on PATH proves nothing (pyenv puts shims there that fail): take the first that runs.
bootstrap: ## Install everything into .venv, from hashed requirements; a second time does nothing
	@if [ -x $(RUN)/python ] && $(RUN)/python cli/bootstrap.py --check 2>/dev/null; then exit 0; fi; \
	for python in python3.13 python3.12 python3.11 python3 python; do \
		if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
			exec $$python cli/bootstrap.py; \
		fi; \
	done; \
	echo "Dunlin needs Python 3.11 or newer: none of python3.13, python3.12, python3.11, python3, python" >&2; \
	echo "on PATH is that. Install one (on Debian: apt-get install python3 python3-venv), then try again." >&2; \
	exit 1

demo: bootstrap ## Run a quarter of billing on real parts, in about two minutes, and prove the result
	@$(RUN)/dunlin demo

up: bootstrap ## Start everything with the demo's state and stay up until Ctrl-C
	@$(RUN)/dunlin up

# Three at once even on two cores: stories wait for processes much of their time.
test: bootstrap ## Run all tests
	@$(RUN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

check: bootstrap ## Lint, formatting, types, import contracts: what must be clean before a commit
	@$(RUN)/ruff check .
	@$(RUN)/ruff format --check .
	@$(RUN)/mypy
	@$(RUN)/lint-imports

verify: check test ## Everything: check, then test

bench-ingest: bootstrap ## Usage from HTTP to records, in batches and singly, beside what Postgres alone can do
	@$(RUN)/python -m benchmarks.ingest

bench-webhooks: bootstrap ## Signed webhooks from HTTP to applied state, beside bare inserts of the same rows
	@$(RUN)/python -m benchmarks.webhooks

bench-billing: bootstrap ## A month's end: subscriptions closed, rated and made final invoices, beside bare SQL of the same rows
	@$(RUN)/python -m benchmarks.billing

bench-api: bootstrap ## Access check, usage so far and invoice list at 100,000 organizations: times and plans
	@$(RUN)/python -m benchmarks.api

bench-indexes: bootstrap ## Plans of every day's queries at 1,000,000 subscriptions; 1 when one reads a table whole
	@$(RUN)/python -m benchmarks.indexes

bench-accounts: bootstrap ## What it costs to prove that no usage is lost, at 1,000,000 records; 1 when looking is slow
	@$(RUN)/python -m benchmarks.accounts

bench-backtest: bootstrap ## 1,000,000 past events under a draft plan; 1 when a cent differs or it takes a minute
	@$(RUN)/python -m benchmarks.backtests

format: bootstrap ## Let ruff sort imports and lay out the code
	@$(RUN)/ruff check --select I --fix --quiet .
	@$(RUN)/ruff format .

# Universal: one file for every platform and Python from 3.11; no addresses, so any mirror serves.
LOCK := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --quiet \
	--no-emit-index-url --no-emit-find-links --no-header
lock: ## Renew requirements/*.txt from pyproject.toml (needs uv)
	@$(LOCK) -o requirements/runtime.txt
	@$(LOCK) --extra local -o requirements/local.txt
	@$(LOCK) --extra dev -o requirements/dev.txt

# The middle line is for root, whose Postgres may stand outside of var (cli/local/identity.py).
clean: ## Remove local state (databases, logs, generated secrets) and caches; .venv stays
	@if [ -x $(RUN)/python ]; then $(RUN)/python -m cli.local.clean var; fi
	@rm -rf var .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
