# All targets work in a fresh clone with make and Python 3.11 or later, including its venv module. A
# C compiler is used if there is one. PYTHON chooses the interpreter: make test PYTHON=python3.13

PYTHON ?= python3
# The virtual environment. Each system root needs its own: see tests/in_debian_sid.sh.
VENV ?= .venv
BIN := $(VENV)/bin
# The version and the location of that interpreter. If they change, the environment is recreated.
INTERPRETER := $(shell $(PYTHON) -c 'import sys; print(*sys.version_info[:3], sys.base_prefix)')
# The inputs of a build. It is repeated if one of them changes, is added or is removed.
SOURCES := setup.py pyproject.toml \
	$(sort $(shell find src -name '*.py' -o -name '*.[ch]' -o -name py.typed))
LOG := build/install.log
# The tests of the build reuse the output of mypyc.
REUSING := PYTHONPATH='$(CURDIR)/tests/support/build_cache/site' \
	TRANSLATIONS='$(CURDIR)/build/translations'
BUILD := $(MAKE) --no-print-directory build
# The libraries of `make ecosystem` have a separate environment: some of them install pytest plugins.
ECOSYSTEM ?= build/ecosystem
# Options for a target's command: make run ARGS="--connections 500", make test ARGS="-- -k queue"
ARGS ?=

.PHONY: help run test test-all-pythons test-newest-pythons conformance ecosystem sanitize explore fuzz \
	soak lint format bench bench-quick bench-peers bench-pythons coverage docs build clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 18

run: build ## start the echo demo: a server, a burst of clients, a summary
	$(BIN)/python docs/examples/echo_demo.py $(ARGS)

# The sources are tested while the package is being built.
test: $(VENV)/tools.stamp ## run the whole test suite, interpreted and compiled
	$(BIN)/python -m tests.matrix --build '$(BUILD)' $(ARGS)

test-all-pythons: build ## run the suite on the other installed CPythons, from 3.11 on
	$(BIN)/python -m tests.pythons $(ARGS)

test-newest-pythons: ## run the suite on CPython 3.14 and 3.15, in a separate Debian root
	tests/in_debian_sid.sh python3.15 -m tests.pythons --all $(ARGS)

conformance: build ## run the standard library's own tests of asyncio on the loop
	$(BIN)/python -m tests.conformance.every_python $(ARGS)

ecosystem: $(ECOSYSTEM)/build.stamp ## run asyncio's libraries on the loop, against real servers
	tests/ecosystem/install_servers.sh
	RUNTIME_NO_ACCELERATOR=1 PYTHONPATH=src RUNTIME_EXPECT_COMPILED=0 RUNTIME_EXPECT_ACCELERATOR=0 \
		$(ECOSYSTEM)/bin/python -m pytest tests/ecosystem $(ARGS)
	$(ECOSYSTEM)/bin/python -m pytest tests/ecosystem -m "not reference" $(ARGS)

sanitize: build ## run the tests of the C code under AddressSanitizer and UBSan
	$(BIN)/python -m tests.sanitize $(ARGS)

explore: build ## run the tests of tasks, TLS and the simulation itself under many schedules
	$(BIN)/python -m pytest --runtime-explore=20 -m "not reference and not slow" \
		tests/sync tests/net/connection/test_tls.py tests/simulation $(ARGS)

fuzz: $(VENV)/tools.stamp ## fuzz the accelerator with libFuzzer: make fuzz ARGS="--seconds 3600"
	$(BIN)/python -m tests.fuzz.run $(ARGS)

soak: build ## break connections for minutes, and find leaks: make soak ARGS="--minutes 10"
	$(BIN)/python -m tests.soak.run $(ARGS)

lint: $(VENV)/tools.stamp ## check style (ruff) and types (mypy --strict)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict src tests bench docs/examples setup.py

format: $(VENV)/tools.stamp ## format the code with ruff
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: build ## measure against asyncio, uvloop and others
	$(BIN)/python -m bench $(ARGS)

bench-quick: build ## measure a case of every kind, in less than three minutes
	$(BIN)/python -m bench quick --quick --html build/bench-quick.html $(ARGS)

bench-peers: build ## install the other event loops that have wheels for this Python
	$(BIN)/python -m bench peers

bench-pythons: $(VENV)/tools.stamp ## run `make bench` on CPython 3.11, 3.14 and 3.15: one page
	$(BIN)/python -m bench pythons $(ARGS)

coverage: $(VENV)/tools.stamp ## measure how much of src/runtime the tests reach: 95% at least
	rm -rf build/coverage && mkdir -p build/coverage
	PYTHONPATH=src RUNTIME_NO_ACCELERATOR=1 RUNTIME_EXPECT_COMPILED=0 RUNTIME_EXPECT_ACCELERATOR=0 \
		$(BIN)/python -m pytest -m "not build" --cov --cov-report=term --cov-report=html $(ARGS)

docs: $(VENV)/docs.stamp ## build the documentation; a warning is an error
	PYTHONPATH=src RUNTIME_NO_ACCELERATOR=1 $(BIN)/python -m sphinx \
		--builder html --fail-on-warning --keep-going --quiet docs build/docs
	@echo "build/docs/index.html"

build: $(VENV)/build.stamp ## install the package, compiled, into .venv

clean: ## remove all created files
	rm -rf $(VENV) build dist src/*.egg-info .coverage .mypy_cache .pytest_cache .ruff_cache \
		.hypothesis
	find src tests bench docs -name __pycache__ -prune -exec rm -rf {} +

# The tools are the extras of the package. This installs the package too, but without compiling it:
# the rule for build.stamp does that.
$(VENV)/tools.stamp: pyproject.toml
	$(PYTHON) -m venv --clear $(VENV)
	RUNTIME_PURE=1 $(BIN)/python -m pip install --quiet --disable-pip-version-check \
		'.[test,bench,dev]'
	@echo '$(INTERPRETER)' > $@

ifneq ($(INTERPRETER),$(shell cat $(VENV)/tools.stamp 2>/dev/null))
.PHONY: $(VENV)/tools.stamp
endif

$(VENV)/docs.stamp: $(VENV)/tools.stamp
	RUNTIME_PURE=1 $(BIN)/python -m pip install --quiet --disable-pip-version-check '.[docs]'
	@rm -f $(VENV)/build.stamp  # The line above has replaced the compiled package by a pure one.
	@touch $@

$(VENV)/build.stamp: $(VENV)/tools.stamp $(SOURCES)
	@mkdir -p build
	@echo "building the package; the compiler's output is in $(LOG)"
	@$(REUSING) $(BIN)/python -m pip install --verbose --disable-pip-version-check --no-deps \
		--no-build-isolation --force-reinstall . > $(LOG) 2>&1 || { cat $(LOG); exit 1; }
	@grep -E '^ *(WARNING \(runtime\)|src/.*: error: )' $(LOG) | awk '!seen[$$0]++'
	@cd build && $(abspath $(BIN))/python -m runtime
	@echo '$(SOURCES)' > $@

ifneq ($(SOURCES),$(shell cat $(VENV)/build.stamp 2>/dev/null))
.PHONY: $(VENV)/build.stamp
endif

# The tests of libraries run on a compiled or an interpreted package, as the machine allows. Only
# `make test` insists on the compiled one.
$(ECOSYSTEM)/tools.stamp: pyproject.toml
	$(PYTHON) -m venv --clear $(ECOSYSTEM)
	RUNTIME_PURE=1 $(ECOSYSTEM)/bin/python -m pip install --quiet --disable-pip-version-check \
		'.[ecosystem]'
	@echo '$(INTERPRETER)' > $@

ifneq ($(INTERPRETER),$(shell cat $(ECOSYSTEM)/tools.stamp 2>/dev/null))
.PHONY: $(ECOSYSTEM)/tools.stamp
endif

$(ECOSYSTEM)/build.stamp: $(ECOSYSTEM)/tools.stamp $(SOURCES)
	$(ECOSYSTEM)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--force-reinstall .
	@cd build && $(abspath $(ECOSYSTEM))/bin/python -m runtime
	@echo '$(SOURCES)' > $@

ifneq ($(SOURCES),$(shell cat $(ECOSYSTEM)/build.stamp 2>/dev/null))
.PHONY: $(ECOSYSTEM)/build.stamp
endif
