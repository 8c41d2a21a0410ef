# Every target first sets up what it needs, in .venv; what is already there and current is reused.

BIN := .venv/bin
DARCY := .cache/darcy
WHEEL := .cache/wheel
# More options for pytest: make test ARGS="-k multigrid"
ARGS :=

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-all test-peers wheel lint docs bench gpu verify core dev fem

help:
	@echo "make demo     solve and certify on public Darcy fields: a table, and a figure in demo/"
	@echo "make test     run the fast tests, about five minutes on two cores"
	@echo "make test-all run all tests and the tutorials"
	@echo "make test-peers  run the tests that need The Well, neuraloperator, CUTEst, in .venv-peers"
	@echo "make wheel    build the wheel, install it beside, and run the fast tests on it"
	@echo "make lint     check style, types and the order of imports"
	@echo "make docs     build the documentation site in docs/_build"
	@echo "make bench    run the comparisons with other packages, and keep what they print in benchmarks/results/"
	@echo "make gpu      run the tests and the benchmark that need a CUDA device, which leaves gpu.json"
	@echo "make verify   run the random tests of bounds, controls and files at their full count"

core:
	@tools/environment.sh
	@tools/compile.sh
dev:
	@tools/environment.sh dev
	@tools/compile.sh
fem:
	@tools/environment.sh dev fem vtk
	@tools/compile.sh

demo: core
	@ls $(DARCY)/neuraloperator-0.3.0-*.whl >/dev/null 2>&1 \
	    || $(BIN)/python -m pip download -qq --retries 1 --no-deps neuraloperator==0.3.0 -d $(DARCY) \
	    || echo "The public Darcy fields could not be downloaded; the sample of the package serves instead."
	@$(BIN)/sciml-bounds demo --data $(DARCY) --out demo

test: fem
	@$(BIN)/python -m pytest -n 2 -m "not slow" $(ARGS)

test-all: fem
	@$(BIN)/python -m pytest -n 2 $(ARGS)

test-peers:
	@tools/peers.sh
	@.venv-peers/bin/python -m pytest tests/peers/test_the_well.py tests/peers/test_neuraloperator.py \
	    tests/peers/test_cutest.py $(ARGS)

# The folder of the wheel comes first on the path, and the one that Python is started in is not on it. The tests of the
# public face load every module; those of single rooms would find out nothing more about the wheel.
wheel: fem
	@rm -rf $(WHEEL) && mkdir -p $(WHEEL)
	@$(BIN)/python -m build --wheel --no-isolation --outdir $(WHEEL) >$(WHEEL).log 2>&1 || { cat $(WHEEL).log; exit 1; }
	@$(BIN)/auditwheel show $(WHEEL)/*.whl
	@$(BIN)/python -m pip install -qq --no-index --no-deps --target $(WHEEL)/installed $(WHEEL)/*.whl
	@SCIML_BOUNDS_HOME=$(WHEEL)/installed PYTHONPATH=$(CURDIR)/$(WHEEL)/installed PYTHONSAFEPATH=1 \
	    $(BIN)/python -m pytest -n 2 -m "not slow" $(ARGS) tests/test_*.py tests/cli tests/samples tests/store

lint: dev
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo

# Offline, and a warning is an error. The pages of the gallery and of the theory run their scripts if these have changed.
docs: dev
	@tools/environment.sh dev docs
	@$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build
	@$(BIN)/python -m pytest -q tests/test_site.py
	@echo "The site is in docs/_build/index.html."

# Those of networks need neuraloperator, a data set or an hour: their first lines say how they are started.
NETWORKS := benchmarks/operators.py benchmarks/predictions.py benchmarks/calibration.py
BENCHMARKS := $(basename $(notdir $(filter-out benchmarks/_% benchmarks/gpu.py benchmarks/record.py $(NETWORKS),$(wildcard benchmarks/*.py))))
bench: dev
	@for script in $(BENCHMARKS); do echo "== $$script"; $(BIN)/python benchmarks/record.py "$$script" || exit 1; done

gpu: dev
	@$(BIN)/python benchmarks/gpu.py --check
	@$(BIN)/python -m pytest -m gpu $(ARGS)
	@$(BIN)/python benchmarks/gpu.py

verify: dev
	@SCIML_BOUNDS_CASES=20200 $(BIN)/python -m pytest tests/bounds/test_random_cases.py tests/bounds/test_random_cells.py \
	    tests/bounds/test_random_functions.py tests/bounds/test_random_energies.py tests/barron/test_cell_bounds.py \
	    tests/fem/test_certify_mesh.py -s $(ARGS)
	@SCIML_BOUNDS_CASES=2000 $(BIN)/python -m pytest tests/control/test_random_controls.py \
	    tests/optimize/test_random_programs.py -s $(ARGS)
	@SCIML_BOUNDS_KILLS=200 SCIML_BOUNDS_FUZZ=250 $(BIN)/python -m pytest tests/store/test_kills.py tests/store/test_fuzz.py -s $(ARGS)
