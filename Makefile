# All set-up happens in .venv inside the checkout; only the package index is needed.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TASKS := $(VENV)/.installed-tasks

DEMO_MODEL ?= smollm2
DEMO_TARGETS ?= onnx executorch
DEMO_DIRS := $(DEMO_TARGETS:%=artifacts/$(DEMO_MODEL)-%)
DEMO_PROFILES ?= fast,balanced,faithful
DEMO_PROMPT ?= Explain in two sentences why the sky is blue.

.DEFAULT_GOAL := help
.PHONY: fuzz help setup demo test test-fast test-slow test-tasks mobile-test lint format clean

help:  ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## Install the package with all tools into .venv

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; set PYTHON=...") \
	    if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -e '.[export,optimum,signing,bench,dev]'
	@touch $@

demo: $(DEMO_DIRS)  ## Export SmolLM2 for each target, then answer one question dense and sparse
	@$(BIN)/glass-export compare $(DEMO_DIRS) "$(DEMO_PROMPT)" --profile $(DEMO_PROFILES)

.PHONY: $(DEMO_DIRS)
$(DEMO_DIRS): artifacts/$(DEMO_MODEL)-%: setup
	@$(BIN)/glass-export inspect $@ >/dev/null 2>&1 || \
	    $(BIN)/glass-export --model $(DEMO_MODEL) --target $* --output $@

test: lint test-fast test-slow test-tasks  ## Everything that CI runs

# A worker for each core, hence one thread in each; what shares fixtures stays together.
PARALLEL := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist loadgroup

test-fast: setup  ## Tests without a real model
	$(PARALLEL) -m 'not slow'

test-slow: setup  ## Longer tests, and those with a real model, which is downloaded once
	$(PARALLEL) -m slow --ignore tests/integration
	$(PARALLEL) -m slow tests/integration

$(TASKS): $(STAMP)
	$(BIN)/python -m pip install --quiet -e '.[tasks]'
	@touch $@

test-tasks: $(TASKS)  ## Tests of `eval --tasks`, with lm-eval (290 MB)
	$(BIN)/pytest tests/unit/evaluate/test_tasks.py tests/unit/cli/test_tasks.py

# ---- Supply chain: docs/reliability.md ----

TOOLS := build/tools
# Where the CPU build of torch comes from: for uv, and for pip.
TORCH_SOURCE ?= --torch-backend cpu
TORCH_LOCKED ?= --extra-index-url https://download.pytorch.org/whl/cpu
IGNORED = $(shell sed -n 's/^\([A-Z][A-Za-z0-9-]*\) .*/--ignore-vuln \1/p' requirements/audit-ignore.txt)

.PHONY: lock setup-locked audit sbom

$(TOOLS)/.installed: requirements/tools.txt pyproject.toml
	test -x $(TOOLS)/bin/python || $(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet -r requirements/tools.txt -e .
	@touch $@

lock: $(TASKS) $(TOOLS)/.installed  ## Pin and hash all packages, at the versions in .venv, for Linux on x86-64
	$(BIN)/python -m pip freeze --exclude-editable | grep -v '^glass' > build/tested.txt
	$(TOOLS)/bin/uv pip compile --quiet pyproject.toml --all-extras --generate-hashes \
	    --python-version 3.11 --python-platform x86_64-manylinux_2_28 --no-annotate \
	    --constraint build/tested.txt --custom-compile-command 'make lock' \
	    --index-strategy unsafe-best-match $(TORCH_SOURCE) --output-file requirements/lock.txt

setup-locked:  ## .venv with exactly the packages of requirements/lock.txt, checked by hash
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps $(TORCH_LOCKED) \
	    -r requirements/lock.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip check
	@touch $(STAMP) $(TASKS)

audit: $(TOOLS)/.installed  ## Known vulnerabilities of the locked packages; needs api.osv.dev
	sed 's/+cpu//' requirements/lock.txt > build/audit.txt
	$(TOOLS)/bin/pip-audit --strict --vulnerability-service osv --require-hashes --disable-pip \
	    $(IGNORED) --requirement build/audit.txt

sbom: $(TOOLS)/.installed  ## build/sbom.json: a bill of materials (CycloneDX 1.6), native sources included
	$(TOOLS)/bin/cyclonedx-py requirements requirements/lock.txt --pyproject pyproject.toml \
	    --mc-type library --sv 1.6 --output-reproducible --of JSON -o build/sbom-python.json
	$(TOOLS)/bin/python requirements/sbom.py build/sbom-python.json build/sbom.json

# ---- Runtime under load: docs/reliability.md ----

GENERATIONS ?= 10000
STEP ?= 1

torture-load: setup  ## Many generations, and every allocation failing; GENERATIONS=10000 STEP=1
	PYTHONPATH=tests $(BIN)/python tests/torture/run.py --generations $(GENERATIONS) --step $(STEP)

# ---- Sudden death: docs/reliability.md ----

TORTURE_KILLS ?= 300

.PHONY: torture torture-load torture-death
torture: torture-load torture-death  ## Exports that are killed, disks that fail, long runs: hours; TORTURE_KILLS, GENERATIONS

torture-death: setup
	OMP_NUM_THREADS=1 TORTURE_KILLS=$(TORTURE_KILLS) $(BIN)/pytest -s tests/unit/test_sudden_death.py

mobile-test: setup  ## Tests of mobile_demo: C, Java, Kotlin, sanitizers, an emulator of Arm
	$(BIN)/pytest tests/unit/test_mobile.py tests/unit/test_mobile_sources.py tests/unit/test_jni.py \
	    tests/unit/test_kotlin.py tests/unit/test_swift.py tests/cpp/test_run.py

FUZZ_SECONDS ?= 60
fuzz: setup  ## Give each reader of artifacts damaged files for FUZZ_SECONDS; needs Clang
	cd tests && PYTHONPATH=.. ../$(BIN)/python fuzz.py $(FUZZ_SECONDS)

lint: setup  ## ruff, mypy and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## Format the code and fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove .venv and all caches; artifacts stay
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
