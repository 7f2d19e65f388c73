# make demo    see it work: embedded PostgreSQL, sample data, live traffic, the dashboard (ARGS=--once ends by itself)
# make test    the whole test suite, in four processes (WORKERS=0: in one)
# make check   ruff, mypy, import-linter, SQL lint
# make bench   the measured claims
# make faults  rounds of faults on the real command, and what was lost (ARGS='--rounds 200 --seed 7', ARGS=--million)

PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
WORKERS ?= 4

.PHONY: demo test check bench faults clean

demo: .venv/demo
	$(BIN)/afresh demo $(ARGS)

# The faults come last and by themselves: what they break has deadlines to heal by.
test: .venv/dev
ifeq ($(strip $(ARGS)),)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --ignore=tests/faults
	$(BIN)/python -m pytest tests/faults
else
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)
endif

check: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.sql_lint

bench: .venv/dev
	$(BIN)/python -m bench $(ARGS)

faults: .venv/dev
	PYTHONPATH=tests $(BIN)/python -m faults.rounds $(ARGS)

# pip reaches into the new environment from outside, so that a Python without ensurepip (Debian's) will do.
.venv/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv --without-pip --clear .venv
	$(PYTHON) -m pip --python $(BIN)/python install --quiet --upgrade 'pip>=25.1'
	@touch $@

.venv/demo: .venv/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

.venv/dev: .venv/demo pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[demo]' --group dev
	@touch $@

clean:
	rm -rf .venv build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
