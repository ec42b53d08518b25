# Every daily command. Bare `make` prints them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := .stamps
# torch is pinned in the constraints: any other version pulls gigabytes of CUDA packages on a machine without a GPU.
PIP := $(BIN)/pip --disable-pip-version-check install --quiet --constraint constraints.txt
# Barriers that spin starve each other as soon as a core is shared.
export OMP_WAIT_POLICY ?= PASSIVE
export GOMP_SPINCOUNT ?= 0

.PHONY: help
help: ## print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | expand -t 18

$(STAMPS)/venv: constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	mkdir -p $(STAMPS) && touch $@

$(STAMPS)/engine: $(STAMPS)/venv pyproject.toml
	$(PIP) --editable '.[engine]'
	touch $@

$(STAMPS)/serve: $(STAMPS)/engine
	$(PIP) --editable '.[engine,serve]'
	touch $@

$(STAMPS)/dev: $(STAMPS)/engine
	$(PIP) --editable '.[engine,otel,postgres,s3,serve,training]' $$($(BIN)/python scripts/dependency_group.py dev)
	touch $@

# The official JavaScript client, for the tests that drive it; without Node they say so and are passed over.
$(STAMPS)/js: tests/acceptance/js/package-lock.json $(STAMPS)/venv
	if command -v npm >/dev/null; then npm ci --prefix tests/acceptance/js --no-audit --no-fund --silent; fi
	touch $@

# An early version of the official Python client, beside the current one that the constraints pin.
$(STAMPS)/fal-client-0.5.0: $(STAMPS)/dev
	$(BIN)/pip --disable-pip-version-check install --quiet --no-deps --target $@ fal-client==0.5.0

# A browser, for the tests that load pages; where the system cannot install one, they say so and are passed over.
$(STAMPS)/browser: $(STAMPS)/venv
	if ! command -v chromium >/dev/null && test "$$(id -u)" = 0; then \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null || true; fi
	touch $@

.PHONY: setup
setup: $(STAMPS)/dev ## virtual environment with everything for development

.PHONY: demo
demo: $(STAMPS)/engine ## edit a real photograph and write the picture to out/
	$(BIN)/python -m hidream_edit edit examples/photo.jpg "turn it into a snowy winter day" --output out/demo.png --compare out/demo-compare.png

.PHONY: serve
serve: $(STAMPS)/serve ## serve the API with the mini model
	$(BIN)/python -m hidream_edit serve

# A process per core, each with files of its own, and torch with a thread in each. Order of the files: tests/conftest.py.
WORKERS ?= logical
ALL_TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --maxprocesses 8 --dist loadfile --no-loadscope-reorder

.PHONY: test
test: setup $(STAMPS)/js $(STAMPS)/browser $(STAMPS)/fal-client-0.5.0 ## all tests, WORKERS=n of them at a time
	$(ALL_TESTS)

.PHONY: test-install
test-install: setup ## wheel and sdist into empty environments by pip and its index, and the main jobs from there; minutes
	$(BIN)/python -m pytest -m installs tests/package

# Apart from `make test` and from CI: the tracer takes as long again as the Python code under it, and a thread was seen to
# die under it while it started, so a test that fails here and not in `make test` may be that.
.PHONY: coverage
coverage: setup $(STAMPS)/js $(STAMPS)/browser $(STAMPS)/fal-client-0.5.0 ## all tests, and which lines they reach; at least 97 %
	$(ALL_TESTS) --cov --cov-report=term:skip-covered

.PHONY: train-mini
train-mini: setup ## train the mini model from nothing, or go on with it; hours, resumable
	$(BIN)/python -W ignore -m training.mini --out runs/mini $(TRAIN)

.PHONY: eval-mini
eval-mini: setup ## measure the mini model in the package against its gate; about 20 minutes
	$(BIN)/python -W ignore -m training.evaluation --out runs/evaluation

.PHONY: histories
histories: setup ## 20,000 random histories of each store against the reference; `make test` has 2,000
	HISTORIES=20000 $(BIN)/python -m pytest -q tests/conformance/test_random_histories.py

.PHONY: fuzz
fuzz: setup ## 20,000 damaged pictures through the decoder; `make test` has 200
	FUZZ_EXAMPLES=20000 $(BIN)/python -m pytest -q tests/pictures/test_decode.py -k damage

.PHONY: crash
crash: setup ## kill -9 of servers and runners, 200 times over 1,000 jobs: nothing is lost, nothing ends twice
	$(BIN)/python -W ignore benchmarks/crash.py

$(STAMPS)/peers:
	test -d .venv-peers || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip --disable-pip-version-check install --quiet litserve==0.2.19 bentoml==1.4.40
	mkdir -p $(STAMPS) && touch $@

SOAK_SECONDS ?= 3600
.PHONY: soak
soak: setup ## mixed load, hostile calls and killed runners for SOAK_SECONDS: nothing is lost, nothing grows
	PYTHONPATH=. $(BIN)/python -W ignore benchmarks/soak.py --seconds $(SOAK_SECONDS)

.PHONY: bench-api
bench-api: setup $(STAMPS)/peers ## latency and throughput of the API with an engine that costs nothing, beside LitServe and BentoML
	PYTHONPATH=. $(BIN)/python -W ignore benchmarks/api.py --peers .venv-peers/bin/python

.PHONY: bench-trace
bench-trace: setup ## where a served edit spends its time: a table and two pictures in docs/performance.md
	PYTHONPATH=. $(BIN)/python -W ignore -m benchmarks.served

.PHONY: bench-engine
bench-engine: setup ## the engine beside the published way: seconds, memory, floor, growth; half an hour, onto docs/performance.md
	$(BIN)/python -W ignore -m benchmarks.engine $(BENCH)

.PHONY: bench-loading
bench-loading: setup ## seconds from a model folder to an engine, with and without the system's cache; BENCH="--model FOLDER"
	$(BIN)/python -W ignore benchmarks/loading.py $(BENCH)

.PHONY: benchmark-gpu
benchmark-gpu: setup ## one denoising step at the real size, beside the library's class; needs a CUDA device with 140 GB
	$(BIN)/python -W ignore benchmarks/transformer_step.py

.PHONY: test-gpu
test-gpu: setup ## the tests that need a CUDA device, as recorded forwards do; without one they say so
	$(BIN)/python -m pytest -m gpu

.PHONY: bench-quality
bench-quality: setup ## what balanced and turbo bring and cost, each measure alone too: mini model and recorded runs
	PYTHONPATH=. $(BIN)/python -W ignore benchmarks/quality.py

.PHONY: reference
reference: setup ## write docs/reference from the code; a test holds them together
	$(BIN)/python scripts/reference.py

$(STAMPS)/docs: docs/requirements.txt
	test -d .venv-docs || $(PYTHON) -m venv .venv-docs
	.venv-docs/bin/pip --disable-pip-version-check install --quiet --requirement docs/requirements.txt
	mkdir -p $(STAMPS) && touch $@

.PHONY: docs
docs: $(STAMPS)/docs ## build the documentation as a site that asks no other host for anything, into site/
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

.PHONY: benchmark-memory
benchmark-memory: setup ## peaks of the real size in 24 and 16 GB, whole and packed, against the plan, random weights; needs a CUDA device and 64 GB
	PYTHONPATH=. $(BIN)/python -W ignore benchmarks/memory.py

.PHONY: bench-parallel
bench-parallel: setup ## a denoising step on several devices together and on one alone; needs two CUDA devices, or BENCH=--small
	$(BIN)/python -W ignore benchmarks/parallel.py $(BENCH)

.PHONY: lint
lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

.PHONY: types
types: setup
	$(BIN)/mypy

.PHONY: layers
layers: setup
	$(BIN)/lint-imports

.PHONY: check
check: lint types layers ## format, lint, types, import contracts

.PHONY: package
package: setup ## wheel and sdist from what git tracks, into dist/
	rm -rf dist
	$(BIN)/python scripts/package.py dist

.PHONY: audit
audit: setup ## known vulnerabilities in what is pinned, secrets in what git keeps
	$(BIN)/python scripts/audit.py

.PHONY: fix
fix: setup ## let the formatter and the linter mend what they can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: lock
lock: setup ## pin what is installed now
	$(BIN)/pip freeze --exclude-editable | grep -vE '^(pip|hidream-edit)==' | sed -E 's/\+cpu$$//; s/ @ .*//' > constraints.txt

.PHONY: clean
clean: ## remove the environment and everything built
	rm -rf $(VENV) .venv-docs .venv-peers $(STAMPS) dist build out site .coverage htmlcov
