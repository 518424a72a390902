# Every target works on a fresh clone: `setup` installs what is missing and does nothing when up to date.
PYTHON ?= python3.13
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
OPENAI1 := $(VENV)/openai1
FOCUS := $(VENV)/focus
SBOM := $(VENV)/sbom
DEPLOYED := $(VENV)/deployed
NODE_STAMP := node_modules/.installed

# Dozens of processes start in the tests: all but the first read the compiled sources.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo test test-stack test-parts test-code test-properties test-doubles soak soak-http focus-validate screenshots package sbom infra clients check check-types check-code bench up format lock clean

setup: $(STAMP) $(NODE_STAMP)
	@:

$(STAMP): requirements.txt requirements-dev.txt
	@test -x $(PY) || $(PYTHON) --version >/dev/null 2>&1 || { \
		echo "make: $(PYTHON) does not run: install Python 3.13, or name yours with make PYTHON=PATH" >&2; exit 1; }
	@echo "installing Python packages into $(VENV) ..."
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@if command -v uv >/dev/null 2>&1; then \
		VIRTUAL_ENV=$(VENV) uv pip install -q -r requirements-dev.txt; \
	else \
		$(PY) -m pip install -q --disable-pip-version-check -r requirements-dev.txt; \
	fi
	@touch $@

$(NODE_STAMP): package.json package-lock.json
	@npm --version >/dev/null 2>&1 || { \
		echo "make: npm does not run: install Node.js 20 or later (it brings npm)" >&2; exit 1; }
	@echo "installing Node packages into node_modules ..."
	@npm ci --silent --no-fund --no-audit
	@touch $@

# openai 1.x and 3.x cannot share an environment; the end-to-end tests use 1.x from a directory of its own.
$(OPENAI1)/.installed: requirements-openai1.txt $(STAMP)
	@$(PY) -m pip install -q --disable-pip-version-check --no-compile --upgrade --target $(OPENAI1) -r requirements-openai1.txt
	@touch $@

# The validator cannot share our environment either: it needs older packages.
$(FOCUS)/.installed: requirements-focus.txt $(STAMP)
	@echo "installing the FOCUS validator into $(FOCUS) ..."
	@$(PY) -m venv --clear $(FOCUS)
	@$(FOCUS)/bin/python -m pip install -q --disable-pip-version-check --no-deps -r requirements-focus.txt
	@touch $@

# What is deployed, alone, and what describes it.
$(DEPLOYED)/.installed: requirements.txt $(STAMP)
	@$(PY) -m venv --clear --without-pip $(DEPLOYED)
	@$(PY) -m pip --python $(DEPLOYED)/bin/python install -q --disable-pip-version-check --no-compile -r requirements.txt
	@touch $@

$(SBOM)/.installed: requirements-sbom.txt $(STAMP)
	@$(PY) -m venv --clear $(SBOM)
	@$(SBOM)/bin/python -m pip install -q --disable-pip-version-check --no-deps -r requirements-sbom.txt
	@touch $@

demo:
	@$(MAKE) --no-print-directory -j2 setup
	@$(PY) -m local demo

# Three jobs at a time, so that the processors compute while some wait for processes. Each shows its results
# when it is done. Those that wait start first; the others fill their pauses, and the processors to the end.
AT_ONCE := --no-print-directory --keep-going --output-sync=target -j3

test: setup $(OPENAI1)/.installed
	@echo "testing: about 15 minutes on two cores"
	@$(MAKE) $(AT_ONCE) test-stack test-parts test-code test-properties test-doubles

STACK := tests/e2e
PARTS := tests/integration tests/faults
PROPERTIES := tests/properties
DOUBLES := tests/contract tests/local

test-stack:
	$(PY) -m pytest $(STACK)

test-parts:
	$(PY) -m pytest $(PARTS)

test-code:
	$(PY) -m pytest $(addprefix --ignore=,$(STACK) $(PARTS) $(PROPERTIES) $(DOUBLES))

test-properties:
	$(PY) -m pytest $(PROPERTIES)

test-doubles:
	$(PY) -m pytest $(DOUBLES)

soak: setup
	$(PY) -m tests.faults.schedules --seconds 120
	$(PY) -m tests.faults.soak --seconds 600

soak-http: setup
	$(PY) -m tests.faults.soak_http --seconds 600

focus-validate: setup $(FOCUS)/.installed
	$(PY) -m tests.focus.validate --python $(FOCUS)/bin/python

screenshots: setup
	$(PY) -m tests.browser.screenshots

# Checked by hash: a publish loses the files' times, and where the app is mounted read-only Python would compile
# each module again with every start.
package: setup
	@$(PY) -m compileall -q --invalidation-mode checked-hash meter
	@$(PY) -m local.package

sbom: setup $(DEPLOYED)/.installed $(SBOM)/.installed
	@mkdir -p dist
	@$(SBOM)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible -o dist/sbom.cdx.json $(DEPLOYED)/bin/python 2>/dev/null
	@$(PY) -m local.sbom dist/sbom.cdx.json
	@echo "written: dist/sbom.cdx.json"

infra: setup
	$(PY) -m tests.infra

# The clients go into a temporary folder: they are large, and none of the repository's own packages.
clients: setup
	$(PY) -m local.clients --out docs/clients.md

# The types take as long as all the rest.
check: setup
	@$(MAKE) --no-print-directory --output-sync=target -j2 check-types check-code

check-types:
	$(VENV)/bin/mypy

check-code:
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/lint-imports
	$(PY) -m bench.guard

# ONLY=streams runs some parts alone, PEERS=nginx,portkey adds gateways, TREE=PATH another tree's front door.
bench: setup
	@$(PY) -m bench --only "$(ONLY)" --peers "$(PEERS)" --tree "$(TREE)"

up: setup
	@exec $(PY) -m local up

format: setup
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

lock: setup
	$(VENV)/bin/pip-compile -q --strip-extras --no-annotate --no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --upgrade --generate-hashes -o requirements.txt pyproject.toml
	$(VENV)/bin/pip-compile -q --strip-extras --no-annotate --no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --upgrade --extra dev -c requirements.txt -o requirements-dev.txt pyproject.toml
	npm install --package-lock-only --silent

clean:
	rm -rf $(VENV) node_modules .local .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
