# SPDX-License-Identifier: Apache-2.0
# Every target does the set-up that it needs. PYTHON chooses the interpreter of the environment.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
DEMO := .venv/installed_demo
PIP = $(BIN)/python -m pip install --no-compile -c constraints.txt
SITE := build/docs_venv
# A sourced ROS puts packages of another interpreter on PYTHONPATH, among them plugins of pytest.
unexport PYTHONPATH AMENT_PREFIX_PATH COLCON_PREFIX_PATH RMW_IMPLEMENTATION
export PYTHONNOUSERSITE := 1
# pip 25.1 and newer goes on with a download that a proxy cut off.
export PIP_RESUME_RETRIES ?= 20
# Bytecode in .venv, also where the environment wants none: the tests start many processes.
export PYTHONDONTWRITEBYTECODE :=
export PYTHONPYCACHEPREFIX := $(CURDIR)/.venv/bytecode
# Tests wait for other processes, so one more than there are cores. Where much fails, the rest is not
# waited for; nor where a worker of the tests dies, after which pytest-xdist would wait for ever.
WORKERS := $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))
# One pair of processes in thousands is never connected by DDS: such a test is begun once more.
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder --maxfail 10 \
	--max-worker-restart 0 --reruns 1 --only-rerun 'waited .* s in vain'
# Rooms whose tests start no process, render nothing and train nothing, but for those marked slow.
CORE := $(addprefix test/,domains features mapping models localization slam evaluation datasets) \
	$(wildcard test/test_*.py)

.DEFAULT_GOAL := help
.PHONY: help install demo view check test test-launch docs soak bench bench-quick bench-accuracy bench-gpu lint types core fuzz
help:
	@echo "make install         .venv with everything that development needs"
	@echo "make demo            a map, the real node, two drives, a picture; installs only what that needs"
	@echo "make view            the demo's night drive, live on a web page"
	@echo "make check           lint, import contract, types and core tests: two minutes"
	@echo "make test            lint and all tests"
	@echo "make test-launch     launch files with the ros2 launch of an installed ROS 2"
	@echo "make docs            this documentation as a site: build/site/index.html"
	@echo "make fuzz            damaged files and killed commands, FUZZ=30 times as many as the tests draw"
	@echo "make soak            kills, full disks, memory, the nodes for two hours; MINUTES=10 for less"
	@echo "make bench           docs/performance.md"
	@echo "make bench-quick     speed beside the last release, or AGAINST=COMMIT: three minutes"
	@echo "make bench-accuracy  docs/accuracy.md"
	@echo "make bench-gpu       compares a GPU with the CPU and measures it: docs/performance.md"

install: $(INSTALLED)

# The environment of the demo, which the other targets complete.
$(DEMO): setup.py package.xml constraints.txt
	@echo "Installing the demo into .venv: 250 MB to load, 0.9 GB on disk, a minute or two."
	@echo "Needs python3 with venv (sudo apt install python3-venv), git, make."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) --upgrade pip 'setuptools<80' wheel
	$(PIP) --no-deps -e .
	$(BIN)/python scripts/demo_requirements.py > .venv/requirements
	$(PIP) --no-warn-conflicts -r .venv/requirements # torch is left out on purpose
	touch $@

$(INSTALLED): $(DEMO) season_town/pyproject.toml
	@echo "Installing what development needs into .venv: with torch for CPUs 1.5 GB more."
	@echo "With CUDA it is several GB. For CPUs alone stop here (Ctrl-C) and begin with:"
	@echo "  $(BIN)/pip install -c constraints.txt torch \\"
	@echo "    --index-url https://download.pytorch.org/whl/cpu"
	$(PIP) -e '.[ros,train,dev,bench,onnx,ray,view,video,graph]' -e ./season_town
	touch $@

demo: $(DEMO)
	$(BIN)/disam demo

view: $(DEMO)
	$(BIN)/disam demo --live

check: install
	@$(MAKE) --no-print-directory --jobs 3 --output-sync=target lint types core

test: lint
	$(PYTEST)
	@scripts/launch_tests.sh --if-installed

test-launch:
	@scripts/launch_tests.sh

docs $(SITE)/installed: BIN := $(SITE)/bin
docs: $(SITE)/installed
	$(BIN)/python -m sphinx -W --keep-going -q -E -b html docs build/site
	@echo "The site: build/site/index.html"

$(SITE)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(SITE)
	$(PIP) --upgrade 'pip>=25.1'
	$(PIP) --group docs
	touch $@

fuzz: install
	FUZZ=$(or $(FUZZ),30) $(PYTEST) $(addprefix test/faults/test_,fuzz.py fuzz_readers.py fuzz_outputs.py kills.py)

soak: install
	$(BIN)/python -m benchmark.reliability kills disks peaks
	$(BIN)/python -m benchmark.reliability.soak $(if $(MINUTES),--minutes $(MINUTES))

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python scripts/check_words.py
	$(BIN)/lint-imports

types: install
	$(BIN)/mypy

core: install
	$(PYTEST) -m 'not slow' $(CORE)

bench: install
	$(BIN)/python -m benchmark.performance

bench-quick: install
	$(BIN)/python -m benchmark.quick --against '$(AGAINST)'

bench-accuracy: install
	$(BIN)/python -m benchmark.accuracy

bench-gpu: install
	$(BIN)/python -m benchmark.performance.gpu
