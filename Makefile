# Everything starts here: `make help`.
PYTHON ?= python3
VENV ?= .venv
RAY_VENV ?= .venv-ray
LM_EVAL_VENV ?= .venv-lm-eval
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TORCH := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)

.PHONY: help setup study report figure test test-fast coverage proof test-ray test-lm-eval check format bench gpu calibrate catalogue pairs judge-demo chaos command-lines fuzz mutate clean
.DEFAULT_GOAL := help

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Make .venv with pinned versions (done by the others when needed)

# The pinned torch goes in first: otherwise pip may choose another build for the project's range.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: $(PYTHON) is older than 3.11; run: make PYTHON=python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

study: $(READY) ## Train the demo study on the CPU, then print the improvement table
	$(BIN)/python -m harness +study=demo
	$(BIN)/python -m analysis runs/demo
	$(BIN)/python -m analysis report runs/demo

report: $(READY) ## Write runs/demo/report.html with its tables and figures
	$(BIN)/python -m analysis report runs/demo --figures

figure: report ## Renew the README's figure from the demo study
	cp runs/demo/figures/noise_band.svg docs/figures/noise_band.svg

# Hundreds of processes start in the tests: our own code is compiled for them once, whatever the shell says.
test test-fast coverage proof: export PYTHONDONTWRITEBYTECODE =

test: $(READY) ## Run all tests
	$(BIN)/python -m pytest -n auto --dist worksteal -q -m 'not proof'

proof: $(READY) ## Run the longer proofs that `make test` leaves out (simulations, exported logits of every model)
	$(BIN)/python -m pytest -n auto --dist worksteal -q -m proof

test-fast: $(READY) ## Run the tests that neither train nor compose much, under two minutes in all
	$(BIN)/python -m pytest -n auto --dist worksteal -q -m 'not slow and not thorough and not proof'

coverage: $(READY) ## Run all tests, print the lines and branches that they reach; modules below 85 % first
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest -n auto --dist worksteal -q -m 'not proof' --junitxml=build/coverage/tests.xml $(TESTS)
	$(BIN)/python -m coverage combine -q
	$(BIN)/python -m coverage report --skip-covered --sort=cover

# Ray's launcher needs cloudpickle below 3, the other launchers a newer one: an environment of its own.
test-ray: ## Test on a local Ray, in an environment of its own (RAY_VENV, 2 GB)
	@test -x $(RAY_VENV)/bin/pytest || { $(PYTHON) -m venv $(RAY_VENV) \
		&& grep -E '^(torch|numpy|hydra-core|omegaconf)==' constraints.txt > $(RAY_VENV)/pins.txt \
		&& $(RAY_VENV)/bin/pip install --quiet -c $(RAY_VENV)/pins.txt $(TORCH) \
		&& $(RAY_VENV)/bin/pip install --quiet -c $(RAY_VENV)/pins.txt -e '.[ray]' pytest hypothesis; }
	$(RAY_VENV)/bin/python -m pytest tests/harness/test_ray.py -v

# lm_eval takes python-dateutil back to an older version: an environment of its own.
test-lm-eval: ## Test on the real lm_eval, in an environment of its own (LM_EVAL_VENV, 2 GB)
	@test -x $(LM_EVAL_VENV)/bin/pytest || { $(PYTHON) -m venv $(LM_EVAL_VENV) \
		&& grep -E '^(torch|numpy|hydra-core|omegaconf|transformers)==' constraints.txt > $(LM_EVAL_VENV)/pins.txt \
		&& $(LM_EVAL_VENV)/bin/pip install --quiet -c $(LM_EVAL_VENV)/pins.txt $(TORCH) \
		&& $(LM_EVAL_VENV)/bin/pip install --quiet -c $(LM_EVAL_VENV)/pins.txt -e '.[benchmarks]' transformers pytest hypothesis; }
	$(LM_EVAL_VENV)/bin/python -m pytest tests/harness/test_lm_eval.py -v

check: $(READY) ## Lint, check the formatting and the types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## Format the code and sort the imports
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) ## Measure everything on an idle machine, about 35 minutes (NANOGPT=checkout)
	$(BIN)/python -m benchmarks.engine $(if $(NANOGPT),--nanogpt $(NANOGPT)) --write
	$(BIN)/python -m benchmarks.operations --write
	$(BIN)/python -m benchmarks.overhead --write
	$(BIN)/python -m benchmarks.study --write
	$(BIN)/python -m benchmarks.runner --write
	$(BIN)/python -m benchmarks.large --write
	$(BIN)/python -m benchmarks.analysis --write
	$(BIN)/python benchmarks/tokenise.py

gpu: ## Prove and measure on a GPU into docs/gpu.md, with the Python that sees it (PYTHON, STAGE=check|speed|arms|packing|study)
	$(PYTHON) -m benchmarks.gpu $(foreach stage,$(STAGE),--stage $(stage)) $(if $(NANOGPT),--nanogpt $(NANOGPT))

calibrate: $(READY) ## Simulate studies with known truth into docs/calibration.md (about 10 minutes)
	$(BIN)/python -m benchmarks.calibrate

catalogue: $(READY) ## Train every intervention at the demo's scale (about an hour), renew docs/interventions.md
	$(BIN)/python -m harness +study=catalogue
	$(BIN)/python -m analysis runs/catalogue
	$(BIN)/python -m interventions publish runs/catalogue

judge-demo: $(READY) ## Fine-tune two demo arms on three seeds, and let a scripted judge compare them
	$(BIN)/python -m benchmarks.judge_demo

pairs: $(READY) ## Compose every pair of interventions and train a step of each (about 40 minutes)
	$(BIN)/python -m benchmarks.pairs

chaos: $(READY) ## Kill a study 40 times, run 12 races, compare with an undisturbed one (docs/chaos.md)
	$(BIN)/python -m benchmarks.chaos --write

command-lines: $(READY) ## Give every command bad command lines, 400 in all (docs/chaos.md)
	$(BIN)/python -m benchmarks.command_lines --write

fuzz: $(READY) ## Spoil a study's files in 600 ways, run every command on each (docs/chaos.md, about an hour)
	$(BIN)/python -m benchmarks.fuzz --write

build/coverage/data:
	$(MAKE) coverage

mutate: $(READY) build/coverage/data ## Put 200 small faults into the core, one at a time, and list what no test notices (docs/mutation.md)
	$(BIN)/python -m benchmarks.mutate --write

clean: ## Delete the environment and caches; runs and data stay
	rm -rf $(VENV) $(RAY_VENV) $(LM_EVAL_VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
