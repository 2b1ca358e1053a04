# The two commands to know: `make demo` and `make test`.  Both make what they need, once.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test lab check lint unit soak bench bench-growth bench-plots profile profile-start \
  instructions format docs compatibility release clean help

demo: $(VENV)/.made-demo  ## analyse Python's own library in parallel, in the terminal
	$(BIN)/python -m ipyasyncresult.demo

test: lint $(VENV)/.made-browser  ## lint, types, layers and all tests
	$(BIN)/python -m pytest

lab: $(VENV)/.made-lab  ## the same analysis as a notebook, in JupyterLab
	$(BIN)/jupyter lab notebooks/quickstart.ipynb

check: test  ## what CI runs

lint: $(VENV)/.made-test  ## format, ruff, strict mypy, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(VENV)/.made-test  ## the tests without processes: under 10 s
	$(BIN)/python -m pytest tests/unit

# Seeds are drawn anew for each run and are in the output: set CHAOS_SEED, FUZZ_SEED to repeat one.
soak: export CHAOS_SECONDS ?= 600
soak: export CHAOS_SEED ?= $(shell date +%s)
soak: export FUZZ ?= 1_000_000
soak: export IPYASYNCRESULT_HUB_KILLS ?= 100
soak: export FUZZ_SEED ?= $(shell date +%s)
soak: $(VENV)/.made-test  ## the long tail: engines under fire for ten minutes, a million bad messages
	$(BIN)/python -m pytest -s --override-ini timeout=1800 --override-ini faulthandler_timeout=0 \
	  tests/integration/faults/test_chaos.py tests/integration/faults/test_fuzz.py \
	  tests/integration/test_hub_death.py

REPEAT ?= 3
bench: $(VENV)/.made-test  ## this project beside the peers that are installed, in one table
	$(COMPILE)
	$(BIN)/python benchmarks/bench.py --repeat $(REPEAT)

profile: $(VENV)/.made-test  ## where the time of one task goes
	$(BIN)/python benchmarks/profile_task.py

instructions: $(VENV)/.made-test  ## the same in processor instructions; needs valgrind
	$(BIN)/python benchmarks/instructions.py

profile-start: $(VENV)/.made-test  ## what a cold start consists of
	$(COMPILE)
	$(BIN)/python benchmarks/startup.py

bench-growth: $(VENV)/.made-test  ## record how cost grows with tasks, engines, lines, bytes, chunks
	$(BIN)/python benchmarks/growth.py

bench-plots: $(VENV)/.made-test  ## draw what was recorded, for docs/performance.md
	$(BIN)/python benchmarks/plots.py

format: $(VENV)/.made-test  ## let ruff mend what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.made-test  ## the documentation as HTML; a warning is an error
	$(BIN)/python docs/tools/compatibility.py --check
	$(BIN)/sphinx-build -W --keep-going --quiet -b html docs build/docs
	@echo "build/docs/index.html"

compatibility: $(VENV)/.made-test  ## write docs/compatibility.md anew
	$(BIN)/python docs/tools/compatibility.py

release: $(VENV)/.made-test  ## sdist and wheel in dist/, checked in an environment of their own
	rm -rf dist build
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	$(PYTHON) -m venv build/release
	build/release/bin/python -m pip --disable-pip-version-check install --quiet dist/*.whl nbclient matplotlib
	cp notebooks/quickstart.ipynb build/release
	cd build/release && bin/ipyasyncresult --version && bin/jupyter execute quickstart.ipynb
	@echo "ready:" dist/*

clean:  ## remove the environment and everything that was built
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

# An editable install leaves data files out: by these Jupyter's server finds the page of clusters, and
# JupyterLab its launcher card and status-bar item.
ENABLE_PAGE = install -D -m 644 -t $(VENV)/etc/jupyter/jupyter_server_config.d \
  jupyter-config/jupyter_server_config.d/ipyasyncresult.json && \
  mkdir -p $(VENV)/share/jupyter/labextensions && \
  ln -sfn $(CURDIR)/labextension $(VENV)/share/jupyter/labextensions/ipyasyncresult

# As installers do with packages; a start takes twice as long where Python must compile first, and may
# not keep what it compiled (PYTHONDONTWRITEBYTECODE).
COMPILE = $(BIN)/python -m compileall -q ipyasyncresult

# One stamp per kind of environment: a second `make` starts at once, and a changed pyproject.toml
# installs anew.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "This Python cannot make environments; install: sudo apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.made-demo: pyproject.toml | $(BIN)/python
	$(PIP) install --quiet --editable .
	$(COMPILE)
	@touch $@

$(VENV)/.made-lab: pyproject.toml | $(BIN)/python
	$(PIP) install --quiet --editable '.[lab]'
	$(COMPILE)
	$(ENABLE_PAGE)
	@touch $@

$(VENV)/.made-test: pyproject.toml | $(BIN)/python
	$(PIP) install --quiet --editable '.[test,docs,dev]'
	$(COMPILE)
	$(ENABLE_PAGE)
	@touch $@

# Debian packages a browser; elsewhere Playwright brings its own.  Without one the tests that
# need it are skipped, and say so.
$(VENV)/.made-browser: | $(VENV)/.made-test
	@if { command -v chromium || command -v google-chrome; } >/dev/null; then :; \
	elif [ "$$(id -u)" != 0 ]; then \
	  echo "No browser: its tests will be skipped. To run them: sudo apt-get install chromium" >&2; \
	  exit 0; \
	elif grep -q '^ID=debian' /etc/os-release; then \
	  apt-get -qq update && apt-get -qq install --yes --no-install-recommends chromium; \
	else \
	  $(BIN)/playwright install --with-deps chromium; \
	fi && touch $@
