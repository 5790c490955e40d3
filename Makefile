# make run: the main job, end to end · make test: everything the project promises · make faults: kills and damage, on purpose
.PHONY: run read test faults clusters bench demo-models demo-clips lint
export DVC_NO_ANALYTICS = 1
BIN = .venv/bin

run: .venv/ready
	$(BIN)/stipple run

read: .venv/ready  # after `run`: what a classifier sees in the model's drawings
	$(BIN)/python -m demo.reading

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder  # a file at a time for each core

faults: .venv/ready-test
	$(BIN)/python -m tests.faults

clusters: .venv/ready-clusters  # what `make test` skips: the runners that need Dask and Ray
	$(BIN)/python -m pytest tests/flows/test_runners.py

lint: .venv/ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/ready-test
	$(BIN)/python -m benchmarks

demo-clips: .venv/ready
	$(BIN)/python -m demo.clips

demo-models: .venv/ready
	$(BIN)/python -m demo.checkpoints

.venv/ready: requirements.txt pyproject.toml
	python3 -m venv .venv
	$(BIN)/pip install -r requirements.txt
	$(BIN)/pip install --no-deps -e .
	touch $@

.venv/ready-test: .venv/ready requirements-test.txt
	$(BIN)/pip install -r requirements-test.txt
	$(BIN)/pip install --no-deps torchcfm==1.0.7  # the peer that tests and benchmarks compare with; its own deps are not needed
	touch $@

.venv/ready-clusters: .venv/ready-test requirements-clusters.txt
	$(BIN)/pip install -r requirements-clusters.txt
	touch $@
