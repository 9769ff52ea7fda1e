# Two commands do everything: `make demo` and `make test`. Each sets up .venv first where that is needed.
#   PYTHON=/path/to/python3.12   the interpreter that makes .venv
#   VENV=/path/to/env            another environment (one that exists keeps its torch and Detectron2)
SHELL := /bin/bash
VENV ?= .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.setup-stamp
PYVER ?= 3.12
PLATFORM ?= manylinux_2_28_x86_64
OUT ?= dist/bundle

# Small models on small images do not get faster beyond a few threads
THREADS := $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); echo $$((n < 4 ? n : 4)))
export OMP_NUM_THREADS ?= $(THREADS)

.DEFAULT_GOAL := help
.PHONY: help setup demo mes-demo test bench lint doctor bundle clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP)  ## make .venv and install everything into it (done once)

$(STAMP): setup.py constraints.txt scripts/setup.sh scripts/detectron2.txt
	@VENV='$(VENV)' PYTHON='$(PYTHON)' bash scripts/setup.sh

demo: setup  ## simulate cells, train, evaluate and predict: results in output/demo
	@$(PY) tools/demo.py --output output/demo

mes-demo: setup  ## outline mouse stem cells: train on all frames but one, score that one: results in output/mes-demo
	@$(PY) tools/mes_demo.py --output output/mes-demo

test: lint  ## check the code and run the tests (all but those marked slow)
	@$(PY) -m pytest -q -m 'not slow and not bench'

bench: setup  ## measure the dense paths beside Detectron2's, scoring beside pycocotools'
	@$(PY) benchmarks/run.py

lint: setup  ## check the code with ruff
	@$(PY) -m ruff check .

doctor: setup  ## say what is installed, and what is wrong
	@$(PY) -m cellseg_d2.doctor

bundle: setup  ## collect wheels for a node without internet: PYVER=3.12 PLATFORM=manylinux_2_28_x86_64 OUT=dist/bundle
	@$(PY) scripts/bundle.py --python '$(PYVER)' --platform '$(PLATFORM)' --out '$(OUT)'

clean:  ## remove build outputs and caches; .venv, output and datasets stay
	@rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	@find cellseg_d2 tests tools scripts benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
