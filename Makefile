# Everything a person types to build, try and test fakesysfs. Set-up is part of every target: .ci/setup sees to the
# system and .venv, pip to Python packages, setuptools to the C extension; each is done again only when its input changed.

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip -qq --disable-pip-version-check
CC ?= cc
ARGS ?=
# Tests at the same time, unless somebody wants something of pytest, which may not go together.
PARALLEL := $(if $(ARGS),,-n auto --dist loadgroup)

# What holds for the sources as they lie there; nothing of it runs fakesysfs.
RULES := tests/test_layering.py tests/test_house_style.py tests/test_repository.py

FORMATTED_C = $(shell git ls-files '*.c' '*.h')
ENGINE := $(wildcard fakesysfs/binding/*.[ch] fakesysfs/engine/*.[ch] fakesysfs/engine/*/*.[ch])
# -D_GNU_SOURCE as in pyproject.toml. -c, not -fsyntax-only: some warnings come from the optimizer.
LINT_C := -std=c11 -D_GNU_SOURCE=1 -O2 -Wall -Wextra -Wconversion -Wshadow -Wmissing-prototypes -Werror \
          -Ifakesysfs -Ifakesysfs/engine

.PHONY: help setup demo check test coverage agreement docs format lint bench soak kills fuzz clean
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

help: ## this list
	@echo "make TARGET, where TARGET is one of:"
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

setup: ## a .venv with fakesysfs in it; installs what the system lacks, or says what to type
	@.ci/setup
	@$(MAKE) --silent $(VENV)/.run
	@$(MAKE) --silent $(VENV)/.engine

demo: setup ## the walk-through of the README, on a simulated machine
	@$(VENV)/bin/fakesysfs demo

check: setup ## the tests that need neither mounts nor sanitizers, in less than a minute
	@$(MAKE) --silent $(VENV)/.test
	@status=0; FAKESYSFS_SANITIZE=0 $(PY) -m pytest -q $(PARALLEL) $(RULES) tests/t[012]_* $(ARGS) || status=$$?; \
	echo 'One test: $(PY) -m pytest tests/t2_tree/test_dimm.py -k name; all tests: make test'; exit $$status

test: setup ## all tests, lowest layer first; one of them: make test ARGS="-k name"
	@.ci/test-tools
	@$(MAKE) --silent $(VENV)/.test
	@$(PY) -m pytest $(PARALLEL) $(ARGS)

coverage: setup ## all tests, and which lines of Python they ran
	@.ci/test-tools
	@$(MAKE) --silent $(VENV)/.test
	@mkdir -p build/coverage
	@$(PY) -m coverage erase
	@$(PY) -m coverage run -m pytest $(ARGS)
	@$(PY) -m coverage combine --quiet
	@$(PY) -m coverage report

agreement: setup ## replay every recording and write the table behind `fakesysfs presets --kernels`
	@.ci/test-tools
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(PY) tests/recordings/agreement.py $(ARGS)

docs: setup ## the manual as HTML, build/docs/index.html; a warning is an error
	@$(MAKE) --silent $(VENV)/.docs
	@$(PY) tests/support/commands_page.py > docs/reference/commands.md
	@$(PY) -m sphinx -q -W --keep-going -E -c docs -b html . build/docs
	@echo '<meta http-equiv="refresh" content="0; url=docs/index.html">' > build/docs/index.html

format: setup ## everything in its form: ruff format and clang-format
	@$(MAKE) --silent $(VENV)/.lint
	@$(PY) -m ruff check --quiet --select I --fix fakesysfs tests
	@$(PY) -m ruff format --quiet fakesysfs tests
	@$(VENV)/bin/clang-format -i $(FORMATTED_C)

lint: setup ## ruff, mypy --strict, the form of every file, the C compiler's warnings as errors, the layering
	@$(MAKE) --silent $(VENV)/.test $(VENV)/.lint
	@$(PY) -m ruff check fakesysfs tests
	@$(PY) -m ruff format --check --quiet fakesysfs tests || { echo 'to mend the form: make format' >&2; false; }
	@$(VENV)/bin/clang-format --dry-run --Werror $(FORMATTED_C)
	@$(PY) -m mypy
	@include=$$($(PY) -c 'import sysconfig; print(sysconfig.get_path("include"))'); \
	printf '%s\n' $(filter %.c,$(ENGINE)) | \
	    xargs -P 4 -I {} $(CC) $(LINT_C) -isystem "$$include" -c {} -o /dev/null
	@$(PY) -m pytest -q $(RULES)

bench: setup ## how fast it is, and how much memory a machine takes
	@$(PY) tests/bench/bench.py $(ARGS)

soak: setup ## random operations, every invariant checked after each: make soak N=1000000 SEED=1
	@tests/soak/run $(or $(N),1000000) $(or $(SEED),1)

kills: setup ## SIGKILL at random moments to random processes of `run`, and a look for what is left: make kills N=500
	@FAKESYSFS_KILLS=$(or $(N),500) $(PY) -m pytest -q -s tests/t4_namespace/test_kill.py -k random

fuzz: setup ## libFuzzer on the engine's operations, for a minute: make fuzz FUZZ_SECONDS=60
	@.ci/fuzz-tools
	@tests/fuzz/run $(or $(FUZZ_SECONDS),60)

clean: ## removes everything make has made, .venv too
	rm -rf $(VENV) build dist *.egg-info fakesysfs/binding/_engine.*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find fakesysfs tests -name __pycache__ -type d -prune -exec rm -rf {} +

# What follows runs after .ci/setup, by way of the $(MAKE) lines above.

# pip builds the extension in place, so it is up to date afterwards. The old one is removed first: setuptools would keep
# it when only compiler options have changed.
$(VENV)/.run: setup.cfg pyproject.toml
	@echo "installing fakesysfs and its Python packages into $(VENV)"
	@$(PIP) install $$($(PY) -c 'import tomllib; print(*(r.replace(" ", "") for r in tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"]))')
	@rm -f fakesysfs/binding/_engine.*.so
	@$(PIP) install --no-build-isolation --editable .
	@touch $@ $(VENV)/.engine

$(VENV)/.engine: $(ENGINE)
	@echo "building the engine"
	@$(PY) -W ignore::UserWarning -c 'import setuptools; setuptools.setup()' --quiet build_ext --inplace --force
	@touch $@

# fakesysfs[...] is installed already, so pip adds only the packages of that extra.
$(VENV)/.test: $(VENV)/.run
	@echo "installing what the tests need into $(VENV)"
	@$(PIP) install --no-build-isolation "fakesysfs[test]"
	@touch $@

$(VENV)/.lint: $(VENV)/.run
	@echo "installing the linters into $(VENV)"
	@$(PIP) install "fakesysfs[lint]"
	@touch $@

$(VENV)/.docs: $(VENV)/.run
	@echo "installing Sphinx into $(VENV)"
	@$(PIP) install "fakesysfs[docs]"
	@touch $@
