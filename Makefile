# `make demo` and `make test` set everything up first; they need python3 (3.11 or newer, with venv) and a package index.
PYTHON ?= python3
KILLS ?= 50
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test faults check format benchmarks clean

help:  ## Show this list
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## Make .venv and install mbvision with its development tools into it

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("mbvision needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $(STAMP)

demo: $(STAMP)  ## Train a small detector on the built-in scenes, and score it (12 CPU-minutes)
	$(BIN)/python tools/train.py experiment=demo

test: $(STAMP)  ## Run the tests, on every core
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

faults: $(STAMP)  ## Show that nothing is lost: bad inputs, metrics, 50 kills (KILLS=200: more), signals, full disks, resumes
	for part in "" .metrics ".kills $(KILLS)" .stops .resumes; do \
		OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults$$part || exit 1; done

check: $(STAMP)  ## Format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy mbvision

format: $(STAMP)  ## Put the code into the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

benchmarks: $(STAMP)  ## Measure against torchvision and pycocotools (about half an hour)
	for name in inference postprocessing matching training_step data_pipeline coco_evaluation segmentation runtimes video; do \
		$(BIN)/python benchmarks/$$name.py || exit 1; done

clean:  ## Remove .venv and caches; runs and data sets stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
