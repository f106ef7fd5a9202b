# Every routine command. CI calls these and nothing else: what fails there can be run by name.
VENV   := .venv
BIN    := $(VENV)/bin
PY     := $(BIN)/python

PARALLEL := -n 3 --dist worksteal  # for two cores: each process waits for servers a fifth of its time

unexport PYTHONDONTWRITEBYTECODE  # the tests start a hundred interpreters, and each would compile every module

.DEFAULT_GOAL := help
.PHONY: help setup demo experiment-demo interleave-demo test test-slow test-browser test-gpu sink-check ray-check schema-check client-check prove gpu-check check format lint types arch lock lock-check helm-check compose-test table bench bench-peers faults faults-full fuzz soak daily dashboards clean

help:            ## what can be made
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.locked: locks/dev.txt
	@PYTHON="$(PYTHON)" bash deploy/setup

# The tools that attack the service and generate clients of it have an environment of their own.
.checks/.locked: locks/checks.txt | setup
	@test -x .checks/bin/python || $(PY) -m venv .checks
	@.checks/bin/python -m pip install -q --disable-pip-version-check -r locks/checks.txt
	@touch $@

setup: $(VENV)/.locked ## virtual environment with the pinned lock (PYTHON=name: of this Python, 3.11 to 3.13)
	@$(PY) -c "" 2>/dev/null || PYTHON="$(PYTHON)" bash deploy/setup

demo: setup      ## data, training, export, service, a ranking (ONESHOT=1: then stop; MODEL=name: serve that model)
	@$(PY) -m deploy.demo $(if $(ONESHOT),--oneshot) $(if $(MODEL),--model $(MODEL))

experiment-demo: setup ## simulated users, the real service, an A/B and an A/A test, their reports: 5 minutes (ONESHOT=1: then stop)
	@$(PY) -m deploy.experiment_demo $(if $(ONESHOT),--oneshot)

interleave-demo: setup ## half of the simulated users in an A/B test, half interleaved: users that each needs: 5 minutes
	@$(PY) -m deploy.experiment_demo --oneshot --interleave

test: setup      ## the whole default test run, real Redis and ONNX Runtime included
	@$(PY) -m pytest -q $(PARALLEL)

test-slow: setup ## tests that take minutes
	@$(PY) -m pytest -q -m "slow and not hypothesis" $(PARALLEL)
	@$(PY) -m pytest -q -m "hypothesis and not checks" $(PARALLEL) --hypothesis-profile thorough

test-browser: setup ## the page in headless Chromium
	@$(PY) -m pytest -q -m browser

test-gpu: setup  ## tests that need a CUDA device
	@$(PY) -m pytest -q -m gpu

sink-check: setup ## kill the sink twenty times during a million events: none lost, none twice
	@$(PY) -m pytest -q -m slow tests/integration/test_sink.py

ray-check: setup ## batch scoring with two workers of Ray, in an environment of its own (.ray)
	@test -x .ray/bin/python || $(PY) -m venv .ray
	@.ray/bin/python -m pip install -q --disable-pip-version-check -r locks/ray.txt
	@$(PY) -m pytest -q -m slow tests/deploy/scoring

schema-check: .checks/.locked ## schemathesis against the live service, every check on (SCHEMA_SECONDS=3600: search, from SCHEMA_SEED=1)
	@$(if $(SCHEMA_SECONDS),SCHEMA_SECONDS=$(SCHEMA_SECONDS)) $(if $(SCHEMA_SEED),SCHEMA_SEED=$(SCHEMA_SEED)) $(PY) -m pytest -q -rP -m checks tests/checks/test_schema.py

client-check: .checks/.locked ## clients that two generators make of docs/openapi.json call the live service
	@$(PY) -m pytest -q -m checks tests/checks/test_clients.py

prove: setup     ## 2,000 A/A replays of the statistics (KUAIRAND=folder of its logs: real users too)
	@$(PY) -m analysis prove --out benchmarks/results/proof $(if $(KUAIRAND),--kuairand $(KUAIRAND))

gpu-check: setup ## a GPU gives the CPU's scores; users/s by batch size (BUNDLES=...: of these; default: all)
	@$(PY) -m benchmarks.gpu $(or $(BUNDLES),$(wildcard bundles/*/*))

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

bench: setup     ## how fast the service is (QUICK=1: does it run?)
	@$(PY) -m benchmarks.load $(if $(QUICK),--quick)

bench-peers: setup ## the service beside FastAPI, mosec, MLServer, LitServe, BentoML, Ray Serve (QUICK=1)
	@$(PY) -m benchmarks.peers $(if $(QUICK),--quick)

faults: setup    ## faults in the real service, the rows that matter most: under 5 minutes (ONLY="R3 load": of these)
	@$(PY) -m tests.faults --quick $(if $(ONLY),--only $(ONLY))

faults-full: setup ## every row of the fault table: under an hour (docs/reliability.md)
	@$(PY) -m tests.faults $(if $(ONLY),--only $(ONLY))

daily: setup     ## today's bundle from yesterday's log: prepare, train, judge, export, promote (CONFIG=daily.toml, docs/daily.md)
	@$(PY) -m deploy.daily $(or $(CONFIG),daily.toml)

dashboards: setup ## write deploy/grafana/dashboards/*.json from code
	@$(PY) -m deploy.dashboards

soak: setup      ## one service under load for an hour: memory and latency (MINUTES=60, RATE=500 rankings per second)
	@$(PY) -m benchmarks.load.soak --minutes $(or $(MINUTES),60) --rate $(or $(RATE),500)

FUZZED := rank_body stored_behaviours known_head manifest vocabulary signatures arrays experiments access

fuzz: .checks/.locked ## fuzz every reader of bytes, guided by coverage (SECONDS=20 for each of nine; TARGET=name: only that)
	@for target in $(or $(TARGET),$(FUZZED)); do .checks/bin/python -m tests.fuzz $$target --seconds $(or $(SECONDS),20) || exit 1; done

helm-check: .checks/.locked ## the Helm chart: lint, rendered examples, schemas of Kubernetes (RENDER=1: write the examples)
	@.checks/bin/python -m deploy.kubernetes $(if $(RENDER),--render)

compose-test:    ## docker compose up, rank through the published port, scrape, down
	@bash deploy/compose-test

lock:            ## pin every dependency again
	@bash deploy/lock

lock-check: setup ## does the lock resolve on every Python and platform of the README? Metadata only
	@bash deploy/lock-check
