# make demo   sets up, trains on real images for two minutes, shows the result
# make test   sets up, runs the test suite
# make test-quick   runs a part of it that meets every package: for another Python or newer packages
# make test-gpu   runs the tests that tell something of a GPU, there: docs/performance.md
# make proofs   runs the tests that take whole runs: killed ones, several processes, fine-tuning
# make lint   checks style and formatting
# make mutations   converts 10,000 damaged files: an exact load or a clear message
# make fuzz   looks for ten minutes for a stranger's file that the reader stumbles over
# make bench   compares the speed with PyTorch's on this CPU: five to nine minutes
# make gpu-check   on a machine with a GPU: is it right, how fast is it, where does the time go; 12 minutes
# make gpu-wheels   fetches what such a machine may lack for training, into .whl/
# make tpu-check   on a machine with a TPU: are the kernels right, and are they fast?
# make twice   starts a run twice into one new folder, 20 times: one trains, the other says so
# make torture   kills a run 25 times, and compares its end with that of an undisturbed one
#
# PYTHON chooses the interpreter and VENV the environment: make test PYTHON=python3.12 VENV=.venv312

PYTHON ?= python3
VENV ?= .venv
PYTEST_FLAGS ?= -n auto --maxprocesses 4 --dist loadfile
BIN := $(VENV)/bin

# XLA on a CPU takes fresh memory for each step. Huge pages make that cheaper, and a C library that
# keeps what it was given makes it free: docs/performance.md. Only Linux's reads this.
ifndef GLIBC_TUNABLES
export GLIBC_TUNABLES := glibc.malloc.hugetlb=1
demo bench: GLIBC_TUNABLES := $(GLIBC_TUNABLES):glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=68719476736:glibc.malloc.arena_max=1
endif
# A program compiled once starts at once the next time; initialisation's, which each take less than
# the second from which JAX keeps programs by itself, too.
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax
demo: export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0

.PHONY: demo test test-quick test-gpu proofs lint mutations fuzz bench gpu-check gpu-wheels tpu-check \
  twice torture clean

demo: $(VENV)/installed data/digits/1.0.0/dataset_info.json
	$(BIN)/python train.py --config=configs/digits.py

test: $(VENV)/installed-for-tests
	$(BIN)/python -m pytest $(PYTEST_FLAGS) -m "not proof"

# Exact outputs of T, whole runs, going on, checkpoints, conversion, data, what leans on packages.
QUICK_TESTS := tests/models/test_golden.py tests/training/test_loop.py \
  tests/training/recovery/test_resume.py tests/checkpoints tests/adapters tests/convert tests/hub \
  tests/data/test_decoding.py tests/data/test_digits.py tests/data/test_pipeline.py \
  tests/commands/test_train.py tests/test_pretrained.py

test-quick: $(VENV)/installed-for-tests
	$(BIN)/python -m pytest $(PYTEST_FLAGS) -m "not proof" -k "not shunted_s and not shunted_b" $(QUICK_TESTS)

# What the marker `accelerator` is in. Where a GPU is there is often no network, so it runs in the
# environment of PYTHON, as it is.
ACCELERATOR_TESTS := tests/models/test_golden.py tests/ops tests/training/test_loop.py \
  tests/training/devices/test_sharding.py tests/checkpoints/test_run_checkpoints.py

test-gpu: export SHUNTED_JAX_TEST_PLATFORM ?= cuda
test-gpu: export PYTHONPATH := $(CURDIR)$(if $(PYTHONPATH),:$(PYTHONPATH))
# The largest programs come first, and are compiled side by side.
test-gpu: PYTEST_FLAGS := -n auto --maxprocesses 6 --dist load --maxschedchunk 2
test-gpu:
	$(PYTHON) -m pytest $(PYTEST_FLAGS) -m accelerator $(ACCELERATOR_TESTS)

proofs: $(VENV)/installed-for-tests
	$(BIN)/python -m pytest $(PYTEST_FLAGS) -m proof

lint: $(VENV)/installed-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

mutations: $(VENV)/installed-for-tests
	SHUNTED_JAX_MUTATIONS=10000 $(BIN)/python -m pytest -n auto --maxprocesses 3 tests/convert/test_mutations.py

fuzz: $(VENV)/installed-for-tests
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt --editable '.[test,fuzz]'
	$(BIN)/python -m tests.convert.fuzz pickle --seconds 300
	$(BIN)/python -m tests.convert.fuzz container --seconds 300
	@! ls .cache/fuzz/*-finds/* 2>/dev/null

bench: $(VENV)/installed-for-tests
	$(BIN)/python -m benchmarks.throughput --json=docs/throughput_cpu.json --plot=docs/throughput_cpu.png

# With the machine's own Python, which has its JAX and PyTorch; this package needs no installation.
gpu-check:
	$(PYTHON) -m benchmarks.gpu_check

WHEELS := --quiet --disable-pip-version-check --no-deps --constraint requirements.txt
gpu-wheels:
	$(PYTHON) -m pip download $(WHEELS) --only-binary=:all: --python-version 3.12 --implementation cp \
	  $(foreach n,2_28 2_27 2_17,--platform manylinux_$(n)_x86_64) --platform manylinux2014_x86_64 \
	  --requirement benchmarks/gpu_check/wheels.txt --dest .whl
	$(PYTHON) -m pip wheel $(WHEELS) --wheel-dir .whl promise  # has no wheel of its own

tpu-check: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "jax[tpu]==`$(BIN)/python -c 'import jax; print(jax.__version__)'`"
	$(BIN)/python -m benchmarks.tpu_check

twice: $(VENV)/installed-for-tests
	SHUNTED_JAX_PAIRS=20 $(BIN)/python -m pytest -n 0 -s tests/training/recovery/test_started_twice.py

torture: $(VENV)/installed-for-tests
	$(BIN)/python -m tests.torture

clean:
	rm -rf $(VENV) .cache data/digits

data/digits/1.0.0/dataset_info.json: $(VENV)/installed
	$(BIN)/python -m shunted_jax.commands.prepare digits --data-dir data
	@touch $@

$(VENV)/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is `$(PYTHON) --version`, and Python 3.11 or newer is needed:" \
	    "name one, as in make PYTHON=python3.12"; exit 1; }
	@echo "installing into $(VENV): a minute or two"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(VENV)/installed-for-tests: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt --editable '.[test]'
	@touch $@
