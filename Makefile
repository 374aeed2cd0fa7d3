# SPDX-License-Identifier: Apache-2.0
# `make demo` and `make test` do all the set-up they need; PYTHON chooses the interpreter.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: install demo test lint bench bench-accuracy
install: $(INSTALLED)

$(INSTALLED): setup.py constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip 'setuptools<80' wheel
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[ros,synth,train,dev,bench,onnx,ray]'
	touch $@

demo: install
	$(BIN)/python -m demo.run_demo

test: lint
	$(BIN)/python -m pytest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: install
	$(BIN)/python -m benchmark.performance

bench-accuracy: install
	$(BIN)/python -m benchmark.accuracy
