# Two commands for everybody: `make run` (three hospitals and a cloud node in one grid) and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests wait for processes and disks for a good part of their time: two for each core of a small machine.
WORKERS ?= 4

.PHONY: run run-one test test-slow check bench bench-paper bench-curve sim sim-week sim-rewrite bench-anonymizer protos clean

$(VENV)/installed: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "PeerPACS needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "venv is missing. Run: sudo apt install python3-venv"; exit 1; }
	@echo 'Installing into .venv ...'
	@$(BIN)/pip install --quiet --disable-pip-version-check -e . -c requirements.lock
	@touch $@

$(VENV)/developer: $(VENV)/installed
	@echo 'Installing into .venv ...'
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]' -c requirements.lock
	@touch $@

# Besides the node, what its pages show pictures with, and an S3 server for the one that keeps its objects in a bucket.
$(VENV)/demo: $(VENV)/installed
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[demo]' -c requirements.lock
	@touch $@

run: $(VENV)/demo
	@$(BIN)/python tools/run.py

run-one: $(VENV)/demo
	@$(BIN)/python tools/run_one.py

# Tests start hundreds of nodes: each would compile all modules anew where the environment forbids to keep bytecode.
test test-slow: export PYTHONDONTWRITEBYTECODE :=

test: $(VENV)/developer
	PATH="$$(sh tools/programs.sh):$$PATH" $(BIN)/pytest -m 'not slow' -n $(WORKERS)

# Besides the others' programs, nft for lines that lose packets; only root has such lines.
test-slow: $(VENV)/developer
	PATH="$$(sh tools/debian.sh nftables nft || true):$$(sh tools/programs.sh):$$PATH" $(BIN)/pytest -m slow --timeout=1800

check: $(VENV)/developer
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/installed
	PEERPACS_HOME= $(BIN)/peerpacs conformance --write CONFORMANCE.md
	$(BIN)/python tools/tree.py

bench: $(VENV)/developer
	PATH="$$(sh tools/programs.sh):$$PATH" $(BIN)/python -m sim.bench

bench-paper: $(VENV)/developer
	PATH="$$(sh tools/programs.sh):$$PATH" $(BIN)/python -m sim.experiments.paper

# Half an hour: query time up to a million series (ours) and a hundred thousand (Orthanc).
bench-curve: $(VENV)/developer
	PATH="$$(sh tools/programs.sh):$$PATH" $(BIN)/python -m sim.experiments.paper --only curve

sim: $(VENV)/developer
	$(BIN)/python -m sim.plays

# A quarter of an hour or more: the paper's week at four hospitals, with its Figures 6 and 7 in sim-week/.
sim-week: $(VENV)/developer
	$(BIN)/python -m sim.plays sim/scenarios/long/week.txt --report sim-week

sim-rewrite: $(VENV)/developer
	$(BIN)/python -m sim.plays --rewrite

bench-anonymizer: $(VENV)/developer
	$(PYTHON) -m venv .cache/anonymizers
	.cache/anonymizers/bin/pip install --quiet dicognito deid dicom-anonymizer
	$(BIN)/python -m tests.anonymizer.bench_speed --peers .cache/anonymizers/bin/python

protos: $(VENV)/developer
	$(BIN)/python tools/protos.py

clean:
	rm -rf $(VENV) .cache .peerpacs
