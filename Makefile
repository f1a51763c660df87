# Everything one does with a clone. `make demo` and `make test` set up `.venv` first, and again when pyproject.toml changes.
# A Python of one's own: make demo PYTHON=/path/to/python3.12

RUN := .venv/bin/
PYTHON ?=

# Importing torch takes several seconds more where no bytecode may be written.
unexport PYTHONDONTWRITEBYTECODE
# Packages of another environment must not reach into ours.
unexport PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow lint bench clean

help:
	@echo 'make demo        train a small grid on real digits, summarize it, retrain the winners, use one (3 minutes)'
	@echo 'make test        what must pass before a commit: lint, types, tests with coverage'
	@echo 'make test-slow   the tests that take minutes'
	@echo 'make lint        only ruff and mypy'
	@echo 'make bench       the benchmarks; each prints its table'
	@echo 'make clean       remove what these made, .venv included'

setup: .venv/.installed

.venv/.installed: pyproject.toml scripts/setup.sh
	@PYTHON='$(PYTHON)' sh scripts/setup.sh

demo: setup
	@$(RUN)python -m nnscan.demo

lint: setup
	$(RUN)ruff check
	$(RUN)ruff format --check
	$(RUN)mypy

test: lint
	$(RUN)python -m pytest --cov

test-slow: setup
	$(RUN)python -m pytest -m slow

# make bench DATA=FOLDER also runs those that need real data: MNIST/raw, cifar-10-batches-py and muffin_chihuahua below FOLDER.
bench: setup
	$(RUN)python benchmarks/start.py
	$(RUN)python benchmarks/expand.py
	$(RUN)python benchmarks/noop.py
	$(RUN)python benchmarks/sleep.py --trials 800
	$(RUN)python benchmarks/store.py
	$(RUN)python benchmarks/summarize.py
	$(RUN)python benchmarks/summarize.py --against-duckdb
	$(RUN)python benchmarks/digits_grid.py
	$(RUN)python benchmarks/growth.py
	$(RUN)python benchmarks/ddp.py
	@if command -v sbatch >/dev/null; then $(RUN)python benchmarks/slurm.py --folder "$$PWD"; fi
ifdef DATA
	$(RUN)python benchmarks/single_trial.py '$(DATA)'
	$(RUN)python benchmarks/mnist_grid.py '$(DATA)'
	$(RUN)python benchmarks/pairs_grid.py '$(DATA)'
	$(RUN)python benchmarks/cifar_cnn.py '$(DATA)'
	$(RUN)python benchmarks/image_folder.py '$(DATA)/muffin_chihuahua'
	$(RUN)python benchmarks/folder_grid.py '$(DATA)/muffin_chihuahua' --epochs 2
	$(RUN)python benchmarks/folder_grid.py '$(DATA)/muffin_chihuahua' --images 500 --enlarge 640
endif

clean:
	rm -rf .venv .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist demo
	find nnscan tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
