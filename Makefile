# Skymill's task file. Every target sets up what it needs in .venv by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# One tested torch first: an unpinned one would replace the CPU build by gigabytes of CUDA.
TORCH := $(shell sed -n 's/^\(torch==[^ +]*\).*/\1/p' constraints.txt)
# Python compiles what it imports; doing that for all 24,000 files here took most of a minute.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
EXTRAS := ingest,simulate,dev

export RAY_USAGE_STATS_ENABLED := 0
# Without its bytecode every process of a test compiles all that it imports: half of its time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo study test test-slow chaos lint format bench bench-check clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "make: $(PYTHON) is older than Python 3.11; call make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@echo "Setting up $(VENV) (torch first, then the rest; some minutes on a new machine)"
	$(PYTHON) -m venv $(VENV)
	$(PIP) --constraint constraints.txt $(TORCH)
	$(PIP) --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

# The main job. FRAMES=folder CATALOG=file runs it on real frames instead of the practice survey.
demo: demo-input $(STAMP)
	PATH="$(CURDIR)/$(BIN):$$PATH" FRAMES="$(FRAMES)" CATALOG="$(CATALOG)" bash cluster/demo.sh

.PHONY: demo-input
demo-input:
	@test -z "$(FRAMES)" -a -z "$(CATALOG)" || test -n "$(FRAMES)" -a -n "$(CATALOG)" \
	  || { echo "make: FRAMES and CATALOG go together: give a folder of frames and the catalogue of its objects" >&2; exit 2; }

# What pre-training is worth at any number of labels, within an hour on two cores. RECIPE=ablation: which augmentation
# earns its place. Stopped, it goes on.
RECIPE := small
GALAXIES := 5100
study: $(STAMP)
	PATH="$(CURDIR)/$(BIN):$$PATH" RECIPE="$(RECIPE)" GALAXIES="$(GALAXIES)" bash cluster/study.sh

# Whole jobs spend most of their time waiting for Ray, so they run beside the others, which take both of two cores.
test: $(STAMP)
	$(MAKE) --no-print-directory --jobs=2 --keep-going test-rooms test-jobs

.PHONY: test-rooms test-jobs
test-rooms: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile --ignore tests/system

test-jobs: $(STAMP)
	$(BIN)/python -m pytest tests/system

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

# Kills ingest jobs at random moments: drivers, workers, nodes. KILLS=200 SEED=1 for others.
KILLS := 60
SEED := 0
chaos: $(STAMP)
	$(BIN)/python tests/system/chaos.py --kills $(KILLS) --seed $(SEED)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)
	$(BIN)/python -m benchmarks all --json build/bench.json --page build/bench.html

# Whether the benchmarks can be trusted: twice the work takes twice the time, and a delay is found where it is.
bench-check: $(STAMP)
	$(BIN)/python -m benchmarks.check

clean:
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis
