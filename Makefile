# Two commands do all the set-up: `make quickstart` and `make test`. Both need Python >= 3.11 and nothing else.
# `make types` checks types, `make lint` formats and fixes what it can.
# `make test-slow` runs what takes minutes: runs that are killed at random moments, again and again.
# `make test-clients` gives small published encoders to other projects, in an environment of their own: see docs/other-tools.md.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: quickstart test test-slow test-clients types lint lock clean

quickstart: $(VENV)/.installed
	$(BIN)/accelerate launch -m hfcontrast.run recipes/quickstart.yaml

test: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile -m 'not slow'

test-slow: $(VENV)/.installed-test
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal -m slow --ignore tests/clients

# Not in $(VENV): `make lock` writes down what is there.
test-clients:
	$(MAKE) VENV=$(VENV)-clients in-clients

.PHONY: in-clients
in-clients: $(VENV)/.installed-clients
	$(BIN)/python -m pytest -m slow tests/clients

types: $(VENV)/.installed-dev
	$(BIN)/mypy

lint: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The versions that the tests ran with. Never let a resolver choose them: see CONTRIBUTING.md.
lock: $(VENV)/.installed-dev
	$(BIN)/python -m pip list --format=freeze --exclude-editable \
		| grep -viE '^(pip|setuptools|wheel|hfcontrast|nvidia|cuda|triton)' > requirements.lock

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "hfcontrast needs Python >= 3.11; set PYTHON=python3.11 or newer" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml requirements.lock
	$(BIN)/python -m pip install --quiet -c requirements.lock -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/bin/python pyproject.toml requirements.lock
	$(BIN)/python -m pip install --quiet -c requirements.lock -e '.[test]'
	touch $@ $(VENV)/.installed

$(VENV)/.installed-clients: $(VENV)/bin/python pyproject.toml requirements.lock
	$(BIN)/python -m pip install --quiet -c requirements.lock -e '.[clients]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/bin/python pyproject.toml requirements.lock
	$(BIN)/python -m pip install --quiet -c requirements.lock -e '.[dev]'
	touch $@ $(VENV)/.installed $(VENV)/.installed-test

clean:
	rm -rf $(VENV) $(VENV)-clients build *.egg-info .pytest_cache .ruff_cache .mypy_cache
