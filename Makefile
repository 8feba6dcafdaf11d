# make demo   set up .venv and run the bundled CartPole agent live on NEST
# make test   set up and pass the tests
# make check  what CI runs: format, lint, types, tests
# make bench  print the benchmark tables (make thesis: the comparison with the thesis; make training: five
#             seeds of each algorithm from scratch, an hour)

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint check wheel bench training thesis agents clean
.DELETE_ON_ERROR:

demo: .venv/.demo
	$(BIN)/spikeloop run cartpole --on nest-exact --env CartPole-v1 --episodes 10 --seed 1

test: .venv/.dev
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint test wheel

# The built wheel, in a clean environment, from another directory.
wheel: .venv/.dev
	rm -rf dist build/wheel-venv
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps -w dist .
	$(PYTHON) -m venv build/wheel-venv
	build/wheel-venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "$$(ls $(CURDIR)/dist/*.whl)[nest]"
	cd / && $(CURDIR)/build/wheel-venv/bin/spikeloop --version
	cd / && $(CURDIR)/build/wheel-venv/bin/spikeloop agents
	cd / && $(CURDIR)/build/wheel-venv/bin/spikeloop run cartpole --on nest-exact --env CartPole-v1 --episodes 1 --json > /dev/null

bench: .venv/.bench
	$(BIN)/python benchmarks/decision.py
	$(BIN)/python benchmarks/reference.py
	$(BIN)/python benchmarks/bridge.py
	$(BIN)/python benchmarks/soak.py
	$(BIN)/python benchmarks/virtual_board.py
	$(BIN)/python benchmarks/dsqn_step.py
	$(BIN)/python benchmarks/spinnaker.py
	$(BIN)/python benchmarks/fidelity.py

training: .venv/.bench
	$(BIN)/python benchmarks/training.py

thesis: .venv/.bench
	$(BIN)/python benchmarks/thesis --students build/students --json build/thesis.json
	$(BIN)/python benchmarks/thesis --only converted windows board --students build/students
	$(BIN)/python benchmarks/conversion.py

agents: .venv/.dev
	$(BIN)/python -m spikeloop.training.distil --env CartPole-v1 -o models/bundled/cartpole.spk --force
	$(BIN)/python -m spikeloop.training.distil --env MountainCar-v0 -o models/bundled/mountaincar.spk --force
	$(BIN)/python -m spikeloop.training.distil --env CartPole-v1 --for spinnaker-live -o models/bundled/cartpole-spinnaker.spk --force
	$(BIN)/python -m spikeloop.training.distil --env MountainCar-v0 --for spinnaker-live -o models/bundled/mountaincar-spinnaker.spk --force

.venv/.python:
	$(PYTHON) -m venv .venv
	touch $@

.venv/.demo: .venv/.python pyproject.toml constraints.txt
	$(PIP) -e ".[nest]"
	touch $@

.venv/.dev: .venv/.python pyproject.toml constraints.txt
	$(PIP) -e ".[dev]"
	touch $@ .venv/.demo

.venv/.bench: .venv/.dev
	$(PIP) -e ".[bench]"
	touch $@

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
