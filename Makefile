PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := dev,bayes,tensorboard
STAMP := $(VENV)/.installed

# The numerical tests once more under other kernels of the maths libraries: torch's own without vector
# instructions, MKL's for any processor, numpy's and scipy's OpenBLAS for an old one. NUTS computes
# in XLA, which none of these touches.
NUMERICAL := tests/nn tests/models tests/metrics tests/inference
KERNELS := ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE OPENBLAS_CORETYPE=Nehalem

.PHONY: help demo test test-kernels lint tables clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

$(STAMP): pyproject.toml constraints.txt Makefile
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt "setuptools>=77" torch==2.13.0
	$(BIN)/pip install --quiet --no-compile --disable-pip-version-check --no-build-isolation -c constraints.txt -e ".[$(EXTRAS)]"
	@touch $@

demo: $(STAMP)  ## set up, show a collapse by depth and its absence, report
	$(BIN)/lid sweep demo
	$(BIN)/lid report demo

test: $(STAMP)  ## set up and run the suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadgroup

test-kernels: $(STAMP)  ## the numerical tests under other kernels of the maths libraries
	OMP_NUM_THREADS=1 $(KERNELS) $(BIN)/python -m pytest -n auto --ignore=tests/inference/test_nuts.py $(NUMERICAL)

lint: $(STAMP)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

tables: $(STAMP)  ## every table and figure of what has been run
	$(BIN)/lid report

clean:  ## remove the environment and caches, never results
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
