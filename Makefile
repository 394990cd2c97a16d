# Every target works from a fresh clone: the environment is made first, and made again only when the lock changes.
.DEFAULT_GOAL := help
.PHONY: help setup run-local tune find-lr predict serve batch-predict report history compare airflow airflow-env kubeflow prune rollback schemas test test-ports lint format bench clean

CONFIG ?= configs/digits.yaml
ROOT ?= build
export A B CONFIG ROOT DATA WEIGHTS SET DAG IMAGES MODEL TRIALS OUTPUT FORMAT TOP SHARDS TARGET PORT

# Compiled modules are kept whatever the shell says (images with Python often forbid it): importing TFX takes a third then.
export PYTHONDONTWRITEBYTECODE :=

UV_VERSION := 0.13.9
PYTHON := .venv/bin/python
VERB_OPTIONS = --config "$$CONFIG" --root "$$ROOT" $${SET:+--set "$$SET"}
PREDICT_OPTIONS = $${MODEL:+--model "$$MODEL"} $${TOP:+--top "$$TOP"} $${FORMAT:+--format "$$FORMAT"}

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo '  run-local takes CONFIG=configs/digits.yaml DATA=folder WEIGHTS=imagenet|random|path ROOT=build SET="path.of.setting=value ..."'

setup: .venv/.locked ## only the environment, from the lock

.venv/.locked: uv.lock .python-version
	@python3.10 -c '' 2>/dev/null || { echo 'error: Python 3.10 is needed and "python3.10" does not start; get it with "pyenv install 3.10" or your system'\''s package manager'; exit 2; }
	@echo 'making the environment from uv.lock (once; some minutes and 2.7 GB)'
	@test -x .venv-uv/bin/uv || { python3.10 -m venv .venv-uv && .venv-uv/bin/python -m pip install -qq --disable-pip-version-check uv==$(UV_VERSION); }
	@.venv-uv/bin/uv sync --quiet --frozen --no-python-downloads --python "$$(python3.10 -c 'import sys; print(sys.executable)')"
	@touch $@

run-local: setup ## the pipeline: images to a pushed model
	@$(PYTHON) -m pipeline run $(VERB_OPTIONS) $${DATA:+--data "$$DATA"} $${WEIGHTS:+--weights "$$WEIGHTS"}

tune: setup ## as run-local, with a search for better settings first (TRIALS=20)
	@$(PYTHON) -m pipeline tune $(VERB_OPTIONS) $${DATA:+--data "$$DATA"} $${WEIGHTS:+--weights "$$WEIGHTS"} $${TRIALS:+--trials "$$TRIALS"}

find-lr: setup ## suggest a learning rate, by a sweep over the last run's features
	@$(PYTHON) -m pipeline find-lr $(VERB_OPTIONS)

predict: setup ## classify IMAGES="a.jpg folder/" with the pushed model, or with MODEL=folder; FORMAT=csv OUTPUT=file TOP=5
	@$(PYTHON) -m pipeline predict $(VERB_OPTIONS) $(PREDICT_OPTIONS) $${OUTPUT:+--output "$$OUTPUT"} -- $$IMAGES

batch-predict: setup ## classify a folder of any size as a Beam job: IMAGES=folder OUTPUT=predictions.jsonl SHARDS=1
	@$(PYTHON) -m pipeline batch-predict $(VERB_OPTIONS) $(PREDICT_OPTIONS) $${SHARDS:+--shards "$$SHARDS"} --output "$$OUTPUT" -- "$$IMAGES"

serve: setup ## serve the pushed model on 127.0.0.1 with TensorFlow Serving's gRPC API; MODEL=folder PORT=8500
	@$(PYTHON) -m pipeline serve $(VERB_OPTIONS) $${MODEL:+--model "$$MODEL"} $${PORT:+--port "$$PORT"}

report: setup ## make the report of the last run again
	@$(PYTHON) -m pipeline report $(VERB_OPTIONS)

airflow: setup ## an Airflow DAG of CONFIG in DAG=file; its runs keep their files in ROOT/airflow
	@$(PYTHON) -m pipeline airflow --config "$$CONFIG" --root "$$ROOT/airflow" $${DAG:+--dag-file "$$DAG"} \
	  $${DATA:+--data "$$DATA"} $${SET:+--set "$$SET"}

airflow-env: .venv-airflow/.locked ## the environment for Airflow, from the same lock

.venv-airflow/.locked: uv.lock .python-version | setup
	@echo 'making .venv-airflow from uv.lock (once; some minutes and 2.7 GB)'
	@UV_PROJECT_ENVIRONMENT=.venv-airflow .venv-uv/bin/uv sync --quiet --frozen --no-python-downloads --no-dev --extra airflow --python "$$(python3.10 -c 'import sys; print(sys.executable)')"
	@touch $@

kubeflow: setup ## a spec for TARGET=cluster (Argo workflow) or TARGET=vertex (KFP v2) in OUTPUT=file
	@$(PYTHON) -m pipeline kubeflow --config "$$CONFIG" --target "$$TARGET" \
	  --output "$${OUTPUT:-$$ROOT/kubeflow-$$TARGET.yaml}" $${DATA:+--data "$$DATA"} $${SET:+--set "$$SET"}

history: setup ## every run: when, verdict, metrics, pushed version
	@$(PYTHON) -m pipeline history $(VERB_OPTIONS)

compare: setup ## what differs between two runs, and whether by more than chance: A=run B=run, ids of the history or folders
	@$(PYTHON) -m pipeline compare $(VERB_OPTIONS) -- "$$A" "$$B"

prune: setup ## delete the oldest pushed versions beyond push.keep
	@$(PYTHON) -m pipeline prune $(VERB_OPTIONS)

rollback: setup ## take the newest pushed version out of service
	@$(PYTHON) -m pipeline rollback $(VERB_OPTIONS)

test: setup ## all tests but those of test-ports
	@$(PYTHON) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-ports: setup airflow-env ## the longest tests: Airflow, Kubeflow, Vertex AI, Beam's engines, a training cluster, 500 photos
	@$(PYTHON) -m pytest -m ports -n 2 --dist loadfile --durations=0 $$(grep -rl --include='test_*.py' 'mark\.ports' tests)

schemas: setup ## write docs/settings.md and schemas/*.schema.json anew, from the classes that they describe
	@$(PYTHON) -m core.schemas

lint: setup ## format check, lint, types
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

format: setup ## format the code
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

bench: setup ## measure what the README claims
	@$(PYTHON) benchmarks/run.py

clean: ## remove the environment (runs and pushed models stay)
	@rm -rf .venv .venv-uv .venv-newest-tensorflow .venv-airflow
