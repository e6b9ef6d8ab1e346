# Two commands on a fresh machine with Python 3.11 or newer, pip and make:
#   make run     train 20 networks on simulated data, debias them, write results/loh-spd
#   make test    the tests, in the same environment; make test-all has the slow ones too
# and for developers: make lint, make types, make lock, make clean.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/complete
# what is after `make run`, such as make run ARGS="--dataset compas --measure eod"
ARGS ?=

.PHONY: run test test-all lint types lock clean
.DELETE_ON_ERROR:

run: $(STAMP)
	$(RUN) -m experiments debias $(ARGS)

test: $(STAMP)
	$(RUN) -m pytest $(if $(ARGS),$(ARGS),-n 2 --dist worksteal -m "not slow")

test-all: $(STAMP)
	$(RUN) -m pytest -n 2 --dist worksteal --durations=10

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports --no-cache

types: $(STAMP)
	$(RUN) -m pyright --version > /dev/null 2>&1 || $(PYTHON) -m pip --python $(RUN) install "pyright[nodejs]==1.1.414"
	$(RUN) -m pyright --pythonpath $(RUN)

# The environment: exactly what the lock says, checked by hash. The stamp is written last, so an environment that was not
# finished, or is older than the lock, is made anew.
$(STAMP): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "fairjax needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1)." >&2; \
		echo "Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	rm -rf $(VENV)
	$(PYTHON) -m venv --without-pip $(VENV) \
		&& $(PYTHON) -m pip --python $(RUN) install --quiet --require-hashes -r requirements.lock \
		&& $(PYTHON) -m pip --python $(RUN) install --quiet --no-deps --no-index --no-build-isolation -e . \
		&& touch $@ || { rm -rf $(VENV); exit 1; }

# Needs uv.
LOCK_COMMAND := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --extra experiments \
	--group tests --group lint --group build -o requirements.lock
lock:
	UV_CUSTOM_COMPILE_COMMAND="$(LOCK_COMMAND)" $(LOCK_COMMAND) --upgrade --no-config --default-index https://pypi.org/simple

clean:
	rm -rf $(VENV) build dist
