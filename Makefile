# Every routine command. CI calls these and nothing else: what fails there can be run by name.
PYTHON ?= $(or $(shell command -v python3.11),python3)
VENV   := .venv
BIN    := $(VENV)/bin
PY     := $(BIN)/python

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-browser test-gpu check format lint types arch lock compose-test table dashboards clean

help:            ## what can be made
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.locked: locks/dev.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found; name another with: make PYTHON=python3 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r locks/dev.txt
	@touch $@

setup: $(VENV)/.locked ## virtual environment with the pinned lock

demo: setup      ## data, training, export, service, a ranking (ONESHOT=1: then stop; MODEL=name: serve that model)
	@$(PY) -m deploy.demo $(if $(ONESHOT),--oneshot) $(if $(MODEL),--model $(MODEL))

test: setup      ## the whole default test run, real Redis and ONNX Runtime included
	@$(PY) -m pytest -q

test-slow: setup ## tests that take minutes
	@$(PY) -m pytest -q -m slow

test-browser: setup ## the page in headless Chromium
	@$(PY) -m pytest -q -m browser

test-gpu: setup  ## tests that need a CUDA device
	@$(PY) -m pytest -q -m gpu

check: format lint types arch test ## everything before a push

format: setup    ## is the code formatted?
	@$(BIN)/ruff format --check .

lint: setup      ## ruff
	@$(BIN)/ruff check .

types: setup     ## mypy, strict
	@$(BIN)/mypy

arch: setup      ## import rules between rooms
	@$(BIN)/lint-imports

table: setup     ## the runs that a table lacks, then the table: TABLE=a plan of benchmarks/tables (hours)
	@$(PY) -m benchmarks.tables benchmarks/tables/$(TABLE).toml

dashboards: setup ## write deploy/grafana/dashboards/*.json from code
	@$(PY) -m deploy.dashboards

compose-test:    ## docker compose up, rank through the published port, scrape, down
	@bash deploy/compose-test

lock:            ## pin every dependency again
	@bash deploy/lock
