# Every target works from a fresh clone: the environment is made first, and made again only when the lock changes.
.DEFAULT_GOAL := help
.PHONY: help setup run-local approve reject tune find-lr predict serve batch-predict monitor report history compare airflow airflow-env kubeflow prune rollback schemas test test-ports lint format bench fuzz audit sbom pin-images clean beam-job-server similar

# "." in the checkout; `make -f` may be called from elsewhere.
HERE := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))
$(if $(wildcard $(HERE)/uv.lock),,$(error make cannot work with blanks in the path of -f: use make -C "folder"))

CONFIG ?= $(HERE)/configs/digits.yaml
ROOT ?= $(HERE)/build

# Values given to make are taken as they are: it would expand `$` in them, and run `$(shell …)`.
$(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(eval override $(name) := $$(value $(name)))))
export A B CONFIG ROOT DATA WEIGHTS FROM TO SET DAG IMAGES MODEL VERIFY_KEY NAME TRIALS OUTPUT FORMAT TOP SHARDS TARGET PORT REST_PORT CASES ROUNDS TARGETS INPUTS SEED VERSION WHY BY DIRECTORY ENGINE LABELS COUNT

# Where packages come from (proxies, indexes, certificates) is the shell's to say; where they go, and which Python runs
# them, is not.
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONUSERBASE PYTHONOPTIMIZE VIRTUAL_ENV CONDA_PREFIX CONDA_DEFAULT_ENV TF_USE_LEGACY_KERAS
unexport PIP_USER PIP_TARGET PIP_PREFIX PIP_ROOT PIP_PYTHON PIP_REQUIRE_VIRTUALENV PIP_DRY_RUN PIP_REQUIREMENT PIP_CONSTRAINT PIP_NO_BINARY PIP_NO_DEPS
unexport UV_PROJECT_ENVIRONMENT UV_PROJECT UV_WORKING_DIR UV_WORKING_DIRECTORY UV_PYTHON UV_PYTHON_PREFERENCE UV_MANAGED_PYTHON UV_NO_MANAGED_PYTHON UV_PYTHON_SEARCH_PATH UV_SYSTEM_PYTHON UV_ISOLATED
unexport UV_LOCKED UV_FROZEN UV_NO_SYNC UV_DEV UV_NO_DEV UV_NO_GROUP UV_NO_DEFAULT_GROUPS UV_NO_EDITABLE UV_NO_INSTALL_PROJECT UV_NO_INSTALL_WORKSPACE UV_NO_INSTALL_LOCAL UV_NO_SOURCES UV_NO_BINARY UV_NO_BUILD UV_NO_BUILD_ISOLATION UV_ENV_FILE

# Compiled modules are kept whatever the shell says (images with Python often forbid it): importing TFX takes a third then.
export PYTHONDONTWRITEBYTECODE :=

UV := $(HERE)/.venv-uv/bin/uv
PYTHON := $(HERE)/.venv/bin/python
VERB_OPTIONS = --config "$$CONFIG" --root "$$ROOT" $${SET:+--set "$$SET"}
DECISION = --version "$$VERSION" --why "$$WHY" $${BY:+--by "$$BY"} $${DIRECTORY:+--directory "$$DIRECTORY"}
PREDICT_OPTIONS = $${MODEL:+--model "$$MODEL"} $${VERIFY_KEY:+--verify-key "$$VERIFY_KEY"} $${TOP:+--top "$$TOP"} $${FORMAT:+--format "$$FORMAT"}

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(HERE)/Makefile
	@echo
	@echo '  run-local takes CONFIG=configs/digits.yaml DATA=folder WEIGHTS=imagenet|random|path ROOT=build SET="path.of.setting=value ..."'

setup: $(HERE)/.venv/.locked ## install the environment from the lock, nothing else

$(HERE)/.venv/.locked: $(HERE)/uv.lock $(HERE)/.python-version | $(UV)
	@echo 'making the environment from uv.lock (once; some minutes and 2.6 GB)'
	@python=$$(cd $(HERE) && python3.10 -c 'import sys; print(sys.executable)' 2>/dev/null) \
	  || $(UV) python find -q 3.10 >/dev/null 2>&1 || $(UV) python install 3.10 \
	  || { echo 'error: Python 3.10 is needed: "python3.10" does not start, and uv could not download it (its message is above).' \
	    'Get it with "pyenv install 3.10" or your system'\''s package manager' >&2; exit 2; }; \
	  $(UV) sync --project $(HERE) --quiet --frozen --python "$${python:-3.10}"
	@touch $@

# uv itself runs on any Python 3.
$(UV): $(HERE)/supply_chain/uv.txt
	@case "$$(uname -sm)" in 'Linux x86_64' | 'Darwin x86_64') ;; *) \
	  echo "error: TFX 1.15 has no packages for this machine ($$(uname -sm)), only for Linux (WSL2 too) and macOS on x86-64; in" \
	    'a container it may run: docker run --rm -it --platform linux/amd64 -v "$$PWD":/app -w /app python:3.10 make run-local' >&2; exit 2;; esac
	@cd $(HERE) && for python in python3.10 python3; do \
	  "$$python" -m venv --clear .venv-uv >/dev/null 2>&1 && exec .venv-uv/bin/python -m pip install -qq --no-user --disable-pip-version-check \
	    --require-hashes --only-binary :all: -r supply_chain/uv.txt; \
	  done; echo 'error: neither "python3.10" nor "python3" can make a virtual environment: install Python 3.10 with its module' \
	    'venv ("apt-get install python3.10-venv", "pyenv install 3.10")' >&2; exit 2

run-local: setup ## run the pipeline, from images to a pushed model; or only the stages FROM=Evaluator TO=Pusher
	@$(PYTHON) -m pipeline run $(VERB_OPTIONS) $${DATA:+--data "$$DATA"} $${WEIGHTS:+--weights "$$WEIGHTS"} \
	  $${FROM:+--from "$$FROM"} $${TO:+--to "$$TO"}

tune: setup ## like run-local, with a search for better settings first (TRIALS=20)
	@$(PYTHON) -m pipeline tune $(VERB_OPTIONS) $${DATA:+--data "$$DATA"} $${WEIGHTS:+--weights "$$WEIGHTS"} $${TRIALS:+--trials "$$TRIALS"}

find-lr: setup ## suggest a learning rate, by a sweep over the last run's features
	@$(PYTHON) -m pipeline find-lr $(VERB_OPTIONS)

predict: setup ## classify IMAGES="a.jpg 'b c.jpg' folder/" with the pushed model, or with MODEL=folder; FORMAT=csv OUTPUT=file TOP=5
	@$(PYTHON) -m pipeline predict $(VERB_OPTIONS) $(PREDICT_OPTIONS) $${OUTPUT:+--output "$$OUTPUT"} --images "$$IMAGES"

batch-predict: setup ## classify a folder of any size in a Beam job: IMAGES=folder OUTPUT=predictions.jsonl SHARDS=1
	@$(PYTHON) -m pipeline batch-predict $(VERB_OPTIONS) $(PREDICT_OPTIONS) $${SHARDS:+--shards "$$SHARDS"} $${OUTPUT:+--output "$$OUTPUT"} -- "$$IMAGES"

monitor: setup ## compare production with the test split: IMAGES=folder of images, or of a request log; MODEL=folder LABELS=table COUNT=200 OUTPUT=folder
	@$(PYTHON) -m pipeline monitor $(VERB_OPTIONS) $${MODEL:+--model "$$MODEL"} $${LABELS:+--labels "$$LABELS"} \
	  $${COUNT:+--count "$$COUNT"} $${OUTPUT:+--output "$$OUTPUT"} -- "$$IMAGES"

approve: setup ## put the blessed model that waits for approval (push.approval) into service: VERSION=number WHY="…" BY=name
	@$(PYTHON) -m pipeline approve $(VERB_OPTIONS) $(DECISION)

reject: setup ## or remove it: VERSION=number WHY="…" BY=name
	@$(PYTHON) -m pipeline reject $(VERB_OPTIONS) $(DECISION)

similar: setup ## list the last run's training pictures that look most like IMAGES="a.jpg 'b c.jpg' folder/" to its network; TOP=5
	@$(PYTHON) -m pipeline similar $(VERB_OPTIONS) $${TOP:+--top "$$TOP"} --images "$$IMAGES"

serve: setup ## serve the pushed model on 127.0.0.1 with TensorFlow Serving's API; MODEL=folder NAME=name PORT=8500 REST_PORT=8501
	@$(PYTHON) -m pipeline serve $(VERB_OPTIONS) $${MODEL:+--model "$$MODEL"} $${VERIFY_KEY:+--verify-key "$$VERIFY_KEY"} $${NAME:+--name "$$NAME"} \
	  $${PORT:+--port "$$PORT"} $${REST_PORT:+--rest-port "$$REST_PORT"}

report: setup ## make the report of the last run again
	@$(PYTHON) -m pipeline report $(VERB_OPTIONS)

airflow: setup ## write an Airflow DAG for CONFIG to DAG=file; its runs keep their files in ROOT/airflow
	@$(PYTHON) -m pipeline airflow --config "$$CONFIG" --root "$$ROOT/airflow" $${DAG:+--dag-file "$$DAG"} \
	  $${DATA:+--data "$$DATA"} $${SET:+--set "$$SET"}

airflow-env: $(HERE)/.venv-airflow/.locked ## install the environment for Airflow, from the same lock

$(HERE)/.venv-airflow/.locked: $(HERE)/uv.lock $(HERE)/.python-version | setup
	@echo 'making .venv-airflow from uv.lock (once; some minutes and 2.7 GB)'
	@UV_PROJECT_ENVIRONMENT=.venv-airflow $(UV) sync --project $(HERE) --quiet --frozen --no-dev --extra airflow --python "$$($(PYTHON) -c 'import sys; print(sys.base_prefix)')/bin/python3.10"
	@touch $@

kubeflow: setup ## write a spec for TARGET=cluster (Argo workflow) or TARGET=vertex (KFP v2) to OUTPUT=file
	@$(PYTHON) -m pipeline kubeflow --config "$$CONFIG" --target "$$TARGET" \
	  --output "$${OUTPUT:-$$ROOT/kubeflow-$$TARGET.yaml}" $${DATA:+--data "$$DATA"} $${SET:+--set "$$SET"}

history: setup ## list every run: when, verdict, metrics, pushed version
	@$(PYTHON) -m pipeline history $(VERB_OPTIONS)

compare: setup ## show what differs between two runs, and whether by more than chance: A=run B=run, ids from the history or folders
	@$(PYTHON) -m pipeline compare $(VERB_OPTIONS) -- "$$A" "$$B"

prune: setup ## delete pushed versions beyond push.keep, and what only runs before the last runtime.keep_runs need
	@$(PYTHON) -m pipeline prune $(VERB_OPTIONS)

rollback: setup ## take the newest pushed version out of service
	@$(PYTHON) -m pipeline rollback $(VERB_OPTIONS)

test: setup ## run all tests except those of test-ports
	@cd $(HERE) && .venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-ports: setup airflow-env ## run the longest tests: Airflow, Kubeflow, Vertex AI, Beam's engines, a training cluster, 500 photos
	@cd $(HERE) && .venv/bin/python -m pytest -m ports -n 2 --dist loadscope --no-loadscope-reorder --durations=0 $$(grep -rl --include='test_*.py' 'mark\.ports' tests)

schemas: setup ## regenerate docs/settings.md and schemas/*.schema.json from the classes that they describe
	@cd $(HERE) && .venv/bin/python -m core.schemas

lint: setup ## check format, lint, types and imports
	@cd $(HERE) && .venv/bin/ruff format --check .
	@cd $(HERE) && .venv/bin/ruff check .
	@cd $(HERE) && .venv/bin/mypy
	@cd $(HERE) && .venv/bin/lint-imports

format: setup ## format the code
	@cd $(HERE) && .venv/bin/ruff format .
	@cd $(HERE) && .venv/bin/ruff check --fix .

bench: setup ## measure speed and memory, compared with the base alone: DATA=folder WEIGHTS=… CASES="cold head" IMAGES=n ROUNDS=n
	@$(PYTHON) -m benchmarks.bench $${DATA:+--data "$$DATA"} $${WEIGHTS:+--weights "$$WEIGHTS"} $${CASES:+--cases "$$CASES"} \
	  $${IMAGES:+--images "$$IMAGES"} $${ROUNDS:+--rounds "$$ROUNDS"} $${SET:+--set "$$SET"}

fuzz: setup ## feed generated inputs to everything that reads strangers' data: TARGETS="settings tables records images decoder requests rest" INPUTS=2000 SEED=1
	@cd $(HERE) && .venv/bin/python -m benchmarks.fuzz $${TARGETS} $${INPUTS:+--inputs "$$INPUTS"} $${SEED:+--seed "$$SEED"} --workers 2

audit: setup ## check every locked package for advisories; accepted ones are in supply_chain/accepted.yaml
	@$(PYTHON) $(HERE)/supply_chain/audit.py

sbom: setup ## write the installed packages as CycloneDX: OUTPUT=build/sbom
	@$(PYTHON) $(HERE)/supply_chain/sbom.py $${OUTPUT:+--output "$$OUTPUT"}

pin-images: setup ## pin the Dockerfile's images to the current digests of their tags
	@$(PYTHON) $(HERE)/supply_chain/images.py

beam-job-server: setup ## build Beam's job server for a cluster with Maven: ENGINE=flink|spark OUTPUT=build/flink-job-server.jar
	@$(PYTHON) $(HERE)/supply_chain/job_server.py "$$ENGINE" $${OUTPUT:+--output "$$OUTPUT"}

clean: ## remove the environment (runs and pushed models stay)
	@cd $(HERE) && rm -rf .venv .venv-uv .venv-newest-tensorflow .venv-airflow
