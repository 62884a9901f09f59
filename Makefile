# The two commands of the README are `make demo` and `make test`; both do all set-up themselves.
PYTHON := .venv/bin/python
# For what says nothing while it works: its name, and about how many seconds it takes.
SHOWN := $(PYTHON) -m tools.shown
# Tests wait more than they work, so there are more workers than processors. tests/conftest.py says who gets what.
TEST_WORKERS := 4
# Byte code is kept, whatever the environment says: tests start a thousand agents, and each would compile all of its modules.
export PYTHONDONTWRITEBYTECODE :=
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint audit bench simulate lock image chart proto chart-docs clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install everything; leaves the command at .venv/bin/shorthaul
	@tools/setup all

demo: ## watch a multi-zone cluster pull an image (as root: real containerd daemons)
	@tools/setup demo
	@$(PYTHON) -m benchmarks.demo

test: setup lint ## run every test; needs root
	@rm -f .pytest_cache/v/cache/lastfailed
	@$(PYTHON) -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder || { [ $$? -eq 1 ] && $(PYTHON) -m tools.again; }

lint: setup ## ruff, mypy, the import contracts, known faults of what is locked
	@$(SHOWN) ruff 1 $(PYTHON) -m ruff check .
	@$(SHOWN) ruff 1 $(PYTHON) -m ruff format --check .
	@$(SHOWN) mypy 20 $(PYTHON) -m mypy
	@$(SHOWN) lint-imports 10 .venv/bin/lint-imports --no-cache
	@$(PYTHON) -m tools.audit

audit: setup ## ask osv.dev for known faults of what is locked, and keep its answer (needs the network)
	@$(SHOWN) audit 60 $(PYTHON) -m tools.audit --refresh

bench: setup ## measure what README.md says, in ten minutes: dist/bench/ has the report, as page and JSON (OLD=FILE: compare)
	@mkdir -p dist/bench
	@$(PYTHON) -m benchmarks short --json dist/bench/report.json --html dist/bench/report.html $(if $(OLD),--compare $(OLD))

simulate: setup ## simulate a cluster of thousands of nodes: the product's policy, and others, for two minutes at most
	@$(PYTHON) -m benchmarks.simulator --nodes 1000 --image-mb 500

image: ## build the images into dist/, as root (BASE=IMAGE: on another Debian 13 than one made here)
	@tools/setup image
	@$(PYTHON) -m tools.image $(if $(BASE),--base $(BASE))

chart: ## pack the chart into dist/, with the digest of the image that make image built
	@tools/setup image
	@$(SHOWN) "the chart" 5 $(PYTHON) -m tools.package $(if $(REPOSITORY),--repository $(REPOSITORY))

lock: ## resolve pyproject.toml's ranges anew: requirements.lock for development, requirements-image.lock for the image
	@CUSTOM_COMPILE_COMMAND="make lock" $(SHOWN) requirements.lock 120 $(PYTHON) -m piptools compile --quiet --strip-extras --extra dev --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --allow-unsafe \
		--output-file requirements.lock pyproject.toml
	@CUSTOM_COMPILE_COMMAND="make lock" $(SHOWN) requirements-image.lock 60 $(PYTHON) -m piptools compile --quiet --strip-extras --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --allow-unsafe \
		--constraint requirements.lock --output-file requirements-image.lock pyproject.toml

proto: ## make the messages of containerd's API anew (needs grpcio-tools)
	@$(PYTHON) -m grpc_tools.protoc -I. --python_out=. --pyi_out=. agent/content/containerd/api.proto benchmarks/cluster/containerd.proto

chart-docs: ## make the chart's schema, README and dashboards anew
	@$(SHOWN) "the chart's schema and README" 5 $(PYTHON) tools/chart.py
	@$(SHOWN) "the dashboards" 2 $(PYTHON) -m tools.dashboards

clean: ## remove what set-up made (Debian packages stay)
	rm -rf .venv .cache dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
