# Every target first sets up what it needs, in .venv; what is already there and current is reused.

BIN := .venv/bin
DARCY := .cache/darcy
# More options for pytest: make test ARGS="-k multigrid"
ARGS :=

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test lint bench verify core dev fem

help:
	@echo "make demo     solve and certify on public Darcy fields: a table, and a figure in demo/"
	@echo "make test     run the tests and the tutorials"
	@echo "make lint     check style, types and the order of imports"
	@echo "make bench    run the comparisons with other packages"
	@echo "make verify   run the random tests of the bounds at their full count"

core:
	@tools/environment.sh
dev:
	@tools/environment.sh dev
fem:
	@tools/environment.sh dev fem

demo: core
	@ls $(DARCY)/neuraloperator-0.3.0-*.whl >/dev/null 2>&1 \
	    || $(BIN)/python -m pip download -qq --retries 1 --no-deps neuraloperator==0.3.0 -d $(DARCY) \
	    || echo "The public Darcy fields could not be downloaded; the sample of the package serves instead."
	@$(BIN)/sciml-bounds demo --data $(DARCY) --out demo

test: fem
	@$(BIN)/python -m pytest -n 2 $(ARGS)

lint: dev
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo

bench: dev
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

verify: dev
	@SCIML_BOUNDS_CASES=20200 $(BIN)/python -m pytest tests/bounds/test_random_cases.py -s $(ARGS)
