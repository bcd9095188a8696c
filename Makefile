# make demo and make test need Python 3.11 to 3.13 and a package index, nothing else; uv is used where it is there.
VENV ?= .venv
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$python && break; done)
BIN := $(VENV)/bin
DEMO ?= data/demo
PYTEST_ARGS ?=
# One thread for each numerical library: the tests run side by side, and so do the workers.
export OMP_NUM_THREADS = 1
export OPENBLAS_NUM_THREADS = 1
# The tests start Python some hundred times: what is compiled once is kept.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-versions test-lowest lint types check benchmark constraints clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/ready  ## make 160 recordings, featurize them, and say what to do with the table
	$(BIN)/python -m jobs.synthesize $(DEMO)/raw
	$(BIN)/python -m jobs.featurize $(DEMO)/raw --output $(DEMO)/features.zarr --scheduler local
	@printf '\nlearn what is normal, and find the faults\n  . $(BIN)/activate\n  python -m jobs.detect $(DEMO)/features.zarr\n'

# Some of all tests wait for servers and clusters: three processes keep two cores busy, and two the tests of a moment.
test: $(VENV)/compiled  ## run all tests
	$(BIN)/python -m pytest -n 3 --dist worksteal $(PYTEST_ARGS)

test-fast: $(VENV)/compiled  ## run the tests that take a moment
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow" $(PYTEST_ARGS)

test-versions: $(VENV)/compiled  ## run the tests that depend on versions of Python and packages, and take a moment
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow" $(PYTEST_ARGS) \
		tests/features/test_mel.py tests/features/test_fourier.py tests/table/test_encoding.py tests/table/test_make.py \
		tests/table/test_reading.py tests/table/test_store.py tests/table/test_training.py \
		tests/detection/test_detectors.py tests/detection/test_evaluation.py tests/detection/test_make.py \
		tests/detection/test_thresholds.py tests/verification tests/test_front_door.py tests/test_architecture.py

lint: $(VENV)/ready  ## check the style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/ready  ## check the types
	$(BIN)/mypy

check: lint types test  ## all of these

benchmark: $(VENV)/ready  ## compare with a loop over librosa, on synthetic recordings
	$(BIN)/python -m jobs.synthesize data/benchmark/raw --clips 1000
	$(BIN)/python -m jobs.benchmark data/benchmark/raw

test-lowest:  ## run all tests on the oldest versions that pyproject.toml admits (needs uv)
	uv venv --quiet --clear --python "$(PYTHON)" .venv-lowest
	uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct -r pyproject.toml --group dev
	.venv-lowest/bin/python -m pytest -n 3 --dist worksteal $(PYTEST_ARGS)

constraints:  ## choose the newest versions anew (needs uv)
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes \
		--no-header --no-annotate --upgrade --quiet --output-file constraints.txt

clean:  ## delete the virtual environment and all caches, not the data
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info

# librosa compiles parts of itself when it is first used, for half a minute: once, not in each process of the tests.
$(VENV)/compiled: $(VENV)/ready
	@$(BIN)/python -c "import librosa; librosa.feature.melspectrogram"
	@touch $@

# Most of what is installed is never imported: nothing is compiled before it is, which would take as long as all else.
$(VENV)/ready: constraints.txt pyproject.toml
	@if [ -z "$(PYTHON)" ]; then echo "Python 3.11, 3.12 or 3.13 is needed: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; fi
	@if command -v uv >/dev/null; then \
		uv venv --quiet --clear --python "$(PYTHON)" $(VENV) && \
		uv pip install --quiet --python $(BIN)/python --require-hashes -r constraints.txt && \
		uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e . ; \
	else \
		"$(PYTHON)" -m venv --clear $(VENV) && \
		$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --require-hashes -r constraints.txt && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . ; \
	fi
	@touch $@
