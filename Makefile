# Needs Python 3.10 or newer, make and git.  Everything else is installed below .venv, except the servers that the tests
# run against: those `make test` asks the system's package manager for, when they are missing.
PYTHON ?= python3
BIN := .venv/bin
# More arguments for the command of a target, e.g. make demo ARGS=--once
ARGS ?=

.PHONY: demo test test-unit test-alerts-quiet test-harm test-image test-matrix check format golden docs dashboards \
	screenshots chart bench bench-events bench-scrape bench-render constraints dist clean

demo: .venv/.demo
	@$(BIN)/celery-vitals demo $(ARGS)

test: .venv/.dev
	$(BIN)/python tests/support/servers/install.py
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS) || { test $$? -eq 1 && $(ONCE_MORE); }

# The unit tests; a few of them need redis-server, none another server.
test-unit: .venv/.dev
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/unit $(ARGS)

# Real workers and brokers on two busy cores: what failed is run once more, alone, with servers of its own.  Both runs are
# shown, and a test that needs the second is a defect to look into.
ONCE_MORE = $(BIN)/python -m pytest --last-failed --last-failed-no-failures none $(ARGS)

# The tests against other servers, workers of other Celery versions and other Pythons, about an hour; ARGS names rows.
test-matrix: .venv/.dev
	$(BIN)/python tests/support/servers/install.py
	$(BIN)/python -m tests.matrix $(ARGS)

# Ten minutes: the healthy demo under a real Prometheus with the alert rules; none may fire.
test-alerts-quiet: .venv/.dev
	$(BIN)/python tests/support/servers/install.py
	$(BIN)/python -m tests.support.ops.healthy_demo $(ARGS)

# The image and compose.yaml in a Docker engine: one that answers, else, as root, Debian's docker.io.  Where no registry
# can be reached, the images of others are made of Debian's packages (mmdebstrap).
test-image: .venv/.dev
	$(BIN)/python -m pytest tests/support/ops/image_checks.py -s $(ARGS)

# The version of the program, written into the chart, the Dockerfile and compose.yaml; then everything that is generated
# from the chart: its schema and README, the renders, examples/kubernetes.
chart: .venv/.dev
	UPDATE_GOLDEN=1 $(BIN)/python -m pytest tests/ops/test_version.py -q $(ARGS)
	UPDATE_GOLDEN=1 $(BIN)/python -m pytest tests/ops/test_chart_renders.py -q $(ARGS)

check: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tools.reference_pages --check docs

format: .venv/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What a broker holds after a thousand scrapes and fifty kills; make test does the same with fewer.
test-harm: .venv/.dev
	$(BIN)/python tests/support/servers/install.py
	HARM_FULL=1 $(BIN)/python -m pytest tests/integration/test_harm_kills.py $(ARGS)

# The expected exposition, rewritten from what the exporter gives now; look at the difference before you commit it.
golden: .venv/.dev
	$(BIN)/python tests/support/servers/install.py
	UPDATE_GOLDEN=1 $(BIN)/python -m pytest tests/golden $(ARGS)

docs: .venv/.dev
	$(BIN)/python -m tools.reference_pages docs

# The JSON to import, from grafana/source; needs Python 3.11.
dashboards: .venv/.dev
	$(BIN)/python -m grafana.source

# The dashboards in a browser, healthy and in incidents: checks what they show, and keeps the pictures in docs/img.  Needs
# node, npm and Chromium, which it installs from Debian's packages when they are missing; about 4 minutes.
screenshots: .venv/.dev
	$(BIN)/python tests/support/servers/install.py chromium node npm
	@$(MAKE) --no-print-directory grafana/browser/build/page.js
	$(BIN)/python -m tests.support.ops.screenshots $(ARGS)

grafana/browser/build/page.js: grafana/browser/package.json grafana/browser/build.mjs $(wildcard grafana/browser/src/* grafana/dashboards/*)
	cd grafana/browser && npm install --no-package-lock --no-audit --no-fund --ignore-scripts --legacy-peer-deps
	cd grafana/browser && npm run --silent build

# What docs/performance.md quotes.  bench-events installs the exporter that it compares with into .venv-peer.
bench: bench-scrape

bench-scrape bench-events: .venv/.dev
	$(BIN)/python tests/support/servers/install.py
	$(BIN)/python -m benchmarks.$(@:bench-%=%) $(ARGS)

bench-render: .venv/.dev
	$(BIN)/python -m benchmarks.render $(ARGS)

# All versions with their hashes, for every supported Python; constraints.txt is what the program and its demo need.
# Those below image/ are what goes into the image, and what builds it.
PINS := pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-emit-index-url --no-annotate --no-header
LOCK := $(PINS) pyproject.toml --extra demo --group build
constraints: .venv/.dev
	$(BIN)/pip install --quiet uv
	$(BIN)/uv $(LOCK) -o constraints.txt
	$(BIN)/uv $(LOCK) --group test --group check --group dashboards -c constraints.txt -o constraints-dev.txt
	$(BIN)/uv $(PINS) pyproject.toml --extra memcached --extra sqlalchemy -c constraints-dev.txt -o image/run.txt
	$(BIN)/uv $(PINS) --group build -c constraints-dev.txt -o image/build.txt

.venv/.demo: constraints.txt pyproject.toml
	$(call install,constraints.txt)

.venv/.dev: constraints-dev.txt pyproject.toml
	$(call install,constraints-dev.txt)

define install
	@echo "Installing into .venv ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(1)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
endef

# What a release uploads to PyPI.
dist: .venv/.dev
	rm -rf dist
	$(BIN)/hatchling build -d dist

clean:
	rm -rf .venv .venv-peer .matrix build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache \
		grafana/browser/node_modules grafana/browser/build
