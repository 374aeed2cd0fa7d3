# SPDX-License-Identifier: Apache-2.0
# Every target does the set-up that it needs. PYTHON chooses the interpreter of the environment.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
PYTEST := $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder
# Rooms whose tests start no process, render nothing and train nothing, but for those marked slow.
CORE := $(addprefix test/,domains features mapping models localization slam evaluation datasets) \
	$(wildcard test/test_*.py)

.DEFAULT_GOAL := help
.PHONY: help install demo check test soak bench bench-accuracy lint types core
help:
	@echo "make install         .venv with everything that development needs"
	@echo "make demo            a map, the real node, two drives, a picture"
	@echo "make check           lint, import contract, types and core tests: two minutes"
	@echo "make test            lint and all tests"
	@echo "make soak            the node for two hours; MINUTES=10 for less"
	@echo "make bench           docs/performance.md"
	@echo "make bench-accuracy  docs/accuracy.md"

install: $(INSTALLED)

$(INSTALLED): setup.py package.xml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip 'setuptools<80' wheel
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[ros,synth,train,dev,bench,onnx,ray]'
	touch $@

demo: install
	$(BIN)/python -m demo.run_demo

check: install
	@$(MAKE) --no-print-directory --jobs 3 --output-sync=target lint types core

test: lint
	$(PYTEST)

soak: install
	$(BIN)/python -m benchmark.reliability.soak $(if $(MINUTES),--minutes $(MINUTES))

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: install
	$(BIN)/mypy

core: install
	$(PYTEST) -m 'not slow' $(CORE)

bench: install
	$(BIN)/python -m benchmark.performance

bench-accuracy: install
	$(BIN)/python -m benchmark.accuracy
