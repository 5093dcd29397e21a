# `make help` lists the commands. Everything is installed into .venv; nothing outside this folder changes
# except the data cache (WORKBENCH_DATA, else the platform's cache folder).

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.NOTPARALLEL:
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-done
SOURCES := workbench benchmarks tests notebooks
EXTRAS := dev,npm,dicom,lora

# Two test processes with one thread each beat one process with two threads.
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
PYTEST_ARGS ?=

# $(call phase,NAME,COMMAND): announce a phase, run it, print its time, keep its exit status.
define phase
@printf '\n==> %s\n' "$(1)"; SECONDS=0; status=0; { $(2); } || status=$$?; \
printf '==> %s: %d s%s\n' "$(1)" "$$SECONDS" "$$([ $$status = 0 ] || echo ', FAILED')"; exit $$status
endef

.PHONY: help setup demo test data lint types unit notebooks nbval lab format refresh strip clean

help:  ## show this list
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):.*## */  make \1\t/' | expand -t 18

setup: $(STAMP)  ## make .venv and install everything at the pinned versions

$(STAMP): pyproject.toml constraints.txt
	@[ -n "$(PYTHON)" ] || { echo "No python3.11 or python3 found; install Python 3.11 or newer." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and \
	"Python 3.11 or newer is needed, $(PYTHON) is %d.%d; type: make setup PYTHON=/path/to/python3.11" % v[:2])'
	$(call phase,environment,[ -x $(BIN)/python ] || "$(PYTHON)" -m venv $(VENV))
	$(call phase,install torch,$(BIN)/python -m pip install -q -c constraints.txt torch==2.13.0)
	$(call phase,install workbench,PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install -q -e '.[$(EXTRAS)]')
	@touch $@

demo: setup  ## fetch the data, run the notebooks, write a gallery to runs/
	@$(BIN)/workbench demo

test: setup data lint types unit notebooks nbval  ## everything that must pass
	@printf '\n==> all phases passed\n'

data: setup  ## fetch the default data and weights, and a radiograph for the tests
	$(call phase,data,$(BIN)/workbench data fetch --default && $(BIN)/workbench data fetch chest-radiograph)

lint: setup  ## style, import order, formatting
	$(call phase,lint,$(BIN)/ruff check $(SOURCES) && $(BIN)/ruff format --check $(SOURCES))

types: setup  ## static types
	$(call phase,types,$(BIN)/mypy)

unit: setup  ## unit and integration tests
	$(call phase,tests,$(PYTEST) tests --ignore=tests/notebooks -n $(WORKERS) --durations=15 $(PYTEST_ARGS))

notebooks: setup  ## the notebooks through papermill with small parameters
	$(call phase,notebooks,$(PYTEST) tests/notebooks -n $(WORKERS) --durations=5 $(PYTEST_ARGS))

nbval: setup  ## the committed notebooks still give their committed outputs
	$(call phase,nbval,PLOTLY_RENDERER=plotly_mimetype $(PYTEST) notebooks --nbval --nbval-current-env \
	  --nbval-sanitize-with notebooks/sanitize.cfg -n $(WORKERS) --dist loadfile --durations=5)

lab: setup  ## JupyterLab on the notebooks
	@PLOTLY_RENDERER=plotly_mimetype $(BIN)/jupyter lab notebooks

format: setup strip  ## reformat the sources, strip from notebooks what they should not carry
	@$(BIN)/ruff check --fix $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

refresh: setup  ## run the committed notebooks again, in place, and strip them
	@PLOTLY_RENDERER=plotly_mimetype $(BIN)/jupyter nbconvert --to notebook --execute --inplace notebooks/*.ipynb
	@$(MAKE) --no-print-directory strip

strip:  # outputs and counts stay; widget views and state, times and versions go
	@$(BIN)/python -m workbench.runs.tidy notebooks/*.ipynb
	@$(BIN)/nbstripout --keep-output --keep-count --extra-keys "metadata.widgets metadata.papermill \
	  cell.metadata.papermill cell.metadata.execution metadata.language_info.version" notebooks/*.ipynb

clean:  ## remove the environment, caches and runs; the data cache stays
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
