# The image that every container of the pipeline runs: the locked environment and the project, nothing else.
#   docker build -t REGISTRY/tfx-image-classifier:TAG .
# For GPUs, a base with the libraries TensorFlow 2.15 was built against:
#   docker build --build-arg BASE=nvidia/cuda:12.2.2-cudnn8-runtime-ubuntu22.04 -t … .
# `make pin-images`, where the registry can be reached, pins both images below to their digests.
ARG BASE=python:3.10-slim-bookworm

FROM ${BASE} AS python
# Ubuntu 22.04, which NVIDIA's images are made of, packages Python 3.10; the official image of Python has it already.
RUN command -v python3.10 >/dev/null || { \
      apt-get update && apt-get install -y --no-install-recommends python3.10 python3.10-venv && \
      rm -rf /var/lib/apt/lists/*; }

FROM python AS environment
COPY supply_chain/uv.txt /uv.txt
RUN python3.10 -m venv /uv && \
    /uv/bin/python -m pip install -qq --no-cache-dir --require-hashes --only-binary :all: -r /uv.txt
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_NO_CACHE=1
WORKDIR /app
# Two layers: the environment changes with the lock, the project with every commit.
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN /uv/bin/uv sync --frozen --no-dev --extra kubeflow --no-install-project --no-python-downloads --python python3.10
COPY pipeline pipeline
COPY components components
COPY trainer trainer
COPY core core
RUN /uv/bin/uv sync --frozen --no-dev --extra kubeflow --no-editable --no-python-downloads --python python3.10

FROM apache/beam_python3.10_sdk:2.56.0 AS beam

FROM python
# Beam's boot program, so that the same image serves as worker on Dataflow, Flink and Spark. It would make an environment
# of its own, were it not told to use this one.
COPY --from=beam /opt/apache/beam /opt/apache/beam
COPY --from=environment /app/.venv /app/.venv
ENV PATH=/app/.venv/bin:$PATH RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1 PYTHONUNBUFFERED=1
RUN useradd --create-home --uid 1000 pipeline
USER pipeline
WORKDIR /home/pipeline
# Both of TFX's launchers name their command themselves (`python -m tfx.orchestration.kubeflow…`); Beam's workers do not.
ENTRYPOINT ["/opt/apache/beam/boot"]
