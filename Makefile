# Requires Python 3.10 or newer, make and git.  Everything else is installed below .venv, except the servers of the
# tests: `make test` installs missing ones with the system's package manager.
PYTHON ?= python3
BIN := .venv/bin
# More arguments for the command of a target, e.g. make demo ARGS=--once
ARGS ?=

.PHONY: demo test test-unit test-alerts-quiet test-harm test-ledger test-image test-matrix check format generate golden \
	screenshots bench bench-events bench-scrape bench-render constraints dist clean

demo: .venv/.demo
	@$(BIN)/celery-vitals demo $(ARGS)

test: .venv/.dev
	$(BIN)/python tests/support/servers/install.py
	$(BIN)/python -m pytest -n 3 --dist loadfile $(ARGS)

# The unit tests, which need no server, on any supported Python.
test-unit: .venv/.dev
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not server" tests/unit $(ARGS)

# The tests against other servers, worker versions, Python versions and the oldest libraries, about an hour; ARGS names
# rows.
test-matrix: .venv/.dev
	$(BIN)/python tests/support/servers/install.py
	$(BIN)/python -m tests.matrix $(ARGS)

# The healthy demo under a real Prometheus with the alert rules, ten minutes; no alert may fire.
test-alerts-quiet: .venv/.dev
	$(BIN)/python tests/support/servers/install.py
	$(BIN)/python -m tests.support.ops.healthy_demo $(ARGS)

# The image and compose.yaml in a Docker engine: the one that runs, else Debian's docker.io (requires root).  Without a
# registry, the images of other projects are built from Debian's packages (mmdebstrap).
test-image: .venv/.dev
	$(BIN)/python -m pytest tests/support/ops/image_checks.py -s $(ARGS)

check: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tools.generate --check
	$(BIN)/python -m tools.pins --check
	$(BIN)/python -m tools.vocabulary

format: .venv/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The contents of the broker after 1,000 scrapes and 50 kills; make test runs the same tests with smaller numbers.
test-harm: .venv/.dev
	$(BIN)/python tests/support/servers/install.py
	HARM_FULL=1 $(BIN)/python -m pytest tests/integration/test_harm_kills.py $(ARGS)

# Lost and repeated executions beside the tasks' own log: 100,000 tasks under kills and restarts on each broker; ARGS
# names scenarios and smaller numbers.  make test runs the short form.
test-ledger: .venv/.dev
	$(BIN)/python tests/support/servers/install.py
	$(BIN)/python -m tests.ledger $(ARGS)

# Every generated file that needs no server: reference pages, alert and module tables, chart, dashboards, versions.
# Dashboards need Python 3.11 and are skipped without it.
generate: .venv/.dev
	$(BIN)/python -m tools.generate

# The expected help, errors and expositions, these by a running exporter with its servers; read the difference before
# you commit it.
golden: .venv/.dev
	$(BIN)/python tests/support/servers/install.py
	UPDATE_GOLDEN=1 $(BIN)/python -m pytest tests/golden tests/unit/settings/test_bad_input.py $(ARGS)

# The dashboards in a browser, healthy and in incidents: checks the panels and writes the pictures in docs/img.  Installs
# node, npm and Chromium from Debian's packages when they are missing; about 4 minutes.
screenshots: .venv/.dev
	$(BIN)/python tests/support/servers/install.py chromium node npm
	@$(MAKE) --no-print-directory grafana/browser/build/page.js
	$(BIN)/python -m tests.support.ops.screenshots $(ARGS)

grafana/browser/build/page.js: grafana/browser/package.json grafana/browser/build.mjs $(wildcard grafana/browser/src/* grafana/dashboards/*)
	cd grafana/browser && npm install --no-package-lock --no-audit --no-fund --ignore-scripts --legacy-peer-deps
	cd grafana/browser && npm run --silent build

# The figures of docs/performance.md.  bench-events installs the exporter that it compares with into .venv-peer.
bench: bench-scrape

bench-scrape bench-events: .venv/.dev
	$(BIN)/python tests/support/servers/install.py
	$(BIN)/python -m benchmarks.$(@:bench-%=%) $(ARGS)

bench-render: .venv/.dev
	$(BIN)/python -m benchmarks.render $(ARGS)

# The pinned versions, which ask the package index; `make check` compares them with pyproject.toml.
constraints: .venv/.dev
	$(BIN)/pip install --quiet uv
	$(BIN)/python -m tools.pins

.venv/.demo: constraints.txt pyproject.toml $(wildcard pulse/pyproject.toml)
	$(call install,constraints.txt)

.venv/.dev: constraints-dev.txt pyproject.toml $(wildcard pulse/pyproject.toml)
	$(call install,constraints-dev.txt)

# The Python of .venv, and of what creates it.
found_python = $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))
supported = $(shell $(found_python) -c "import sys; print('yes' * (sys.version_info >= (3, 10)))" 2>/dev/null)

define install
	$(if $(supported),,$(error $(found_python) is not Python 3.10 or newer. Name one: `make PYTHON=python3.12 $(MAKECMDGOALS)`; \
		`make clean` removes an old .venv))
	@echo "Installing into .venv ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(1)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable . --editable ./pulse
	@touch $@
endef

# What a release uploads to PyPI.
dist: .venv/.dev
	rm -rf dist
	$(BIN)/hatchling build -d dist
	cd pulse && ../$(BIN)/hatchling build -d ../dist

clean:
	rm -rf .venv .venv-peer .matrix build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache \
		grafana/browser/node_modules grafana/browser/build
