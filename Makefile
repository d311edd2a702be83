# `make demo` and `make test` set up what they need in .venv and then do their work; nothing else is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
# the plain .pth file: setuptools' own finder is asked last, and a folder "fcn4dist" where a user stands (a clone's parent) would hide the package
EDITABLE := --config-settings editable_mode=compat --editable
BENCH_READY := $(VENV)/bench-ready
# builds without CUDA; where this is out of reach, pip says so and takes PyPI's, which is larger and computes the same
TORCH_INDEX := https://download.pytorch.org/whl/cpu

.PHONY: demo test test-slow chaos bench bench-quick lint wheel versions clean

demo: $(READY)
	$(BIN)/fcn4dist launch --devices 2 --demo

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

chaos: $(READY)
	for recipe in plain adamw sgd; do $(BIN)/python -m benchmarks.chaos --kills 20 --seed 1 --recipe $$recipe || exit 1; done
	[ "$$(id -u)" != 0 ] || $(BIN)/python -m benchmarks.chaos --kills 20 --seed 216 --hosts 2  # network namespaces need root

bench: $(BENCH_READY)
	$(BIN)/python -m benchmarks.all

bench-quick: $(BENCH_READY)
	$(BIN)/python -m benchmarks.all --quick

lint: $(READY)
	$(BIN)/ruff check fcn4dist tests benchmarks
	$(BIN)/ruff format --check fcn4dist tests benchmarks
	$(BIN)/mypy
	$(BIN)/shellcheck .ci/* docker/*.sh launch/*.sh launch/*.sbatch

wheel:
	PYTHON=$(PYTHON) .ci/wheel

versions:
	.ci/versions

clean:
	rm -rf $(VENV) build dist *.egg-info

$(READY): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 10) <= v <= (3, 12) or sys.exit(f"Python {v[0]}.{v[1]}: fcn4dist needs 3.10, 3.11 or 3.12; say which: make PYTHON=python3.11")'
	@echo "installing MindSpore and the rest into $(VENV): one to four minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(EDITABLE) ".[train,test,lint]" --constraint constraints.txt
	touch $@

$(BENCH_READY): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(EDITABLE) ".[bench]" --constraint constraints.txt --extra-index-url $(TORCH_INDEX)
	touch $@
