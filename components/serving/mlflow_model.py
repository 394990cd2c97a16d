"""Writes a SavedModel as an MLflow model: plain files, since MLflow itself cannot be installed beside TFX.

`mlflow.pyfunc.load_model` and `mlflow models serve` answer through `components.serving.mlflow_loader`, which is copied
into it; `mlflow.tensorflow.load_model` gives the SavedModel itself. Format:
https://mlflow.org/docs/latest/ml/model/#storage-format
"""

from __future__ import annotations

import base64
import datetime
import io
import json
import platform
import uuid
from pathlib import Path
from typing import Any

import tensorflow as tf
from PIL import Image
from ruamel.yaml import YAML

from components.serving import mlflow_loader
from components.serving.push import copy_model
from core import atomic_io, signatures, storage

_SAVED_MODEL, _EXAMPLE, _SERVING_EXAMPLE = "tfmodel", "input_example.json", "serving_input_example.json"
_CODE, _LOADER = "code", "image_classifier"
_REQUIREMENTS = ("mlflow", f"tensorflow=={tf.__version__}")
_OUTPUTS = {"label": "string", "probability": "float", "error": "string"}


def write_model(saved_model: str, directory: str) -> None:
    """Writes the model's folder: it takes a table with image files in the column `images`, and returns their labels.

    Args:
        saved_model: with checksums; the listed files are copied.
        directory: a new folder, local or remote.
    """
    copy_model(saved_model, f"{directory}/{_SAVED_MODEL}")
    python = platform.python_version()
    example = {"columns": ["images"], "data": [[_picture()]]}
    pip = {"pip": list(_REQUIREMENTS)}
    files = {
        "requirements.txt": "".join(f"{line}\n" for line in _REQUIREMENTS),
        "conda.yaml": _yaml({"channels": ["conda-forge"], "dependencies": [f"python={python}", "pip", pip]}),
        "python_env.yaml": _yaml({"python": python, "dependencies": ["-r requirements.txt"]}),
        _EXAMPLE: json.dumps(example),
        _SERVING_EXAMPLE: json.dumps({"dataframe_split": example}),
        f"{_CODE}/{_LOADER}.py": Path(mlflow_loader.__file__).read_text(encoding="utf-8"),
        "MLmodel": _yaml(_description(python)),
    }
    storage.make_folder(f"{directory}/{_CODE}")
    for name, content in files.items():
        atomic_io.write_text(f"{directory}/{name}", content)


def _description(python: str) -> dict[str, Any]:
    inputs = [{"type": "binary", "name": "images", "required": True}]
    outputs = [{"type": kind, "name": name, "required": True} for name, kind in _OUTPUTS.items()]
    return {
        "flavors": {
            "tensorflow": {
                "model_type": "tf1-estimator",
                "saved_model_dir": _SAVED_MODEL,
                "meta_graph_tags": [tf.saved_model.SERVING],
                "signature_def_key": signatures.IMAGES,
            },
            "python_function": {
                "loader_module": _LOADER,
                "code": _CODE,
                "data": _SAVED_MODEL,
                "python_version": python,
                "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
            },
        },
        "model_uuid": uuid.uuid4().hex,
        "saved_input_example_info": {
            "artifact_path": _EXAMPLE,
            "pandas_orient": "split",
            "serving_input_path": _SERVING_EXAMPLE,
            "type": "dataframe",
        },
        "signature": {"inputs": json.dumps(inputs), "outputs": json.dumps(outputs)},
        "utc_time_created": f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M:%S.%f}",
    }


def _picture() -> str:
    """A gray picture that no data set has."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64), (128, 128, 128)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _yaml(content: dict[str, Any]) -> str:
    text = io.StringIO()
    YAML(typ="safe", pure=True).dump(content, text)
    return text.getvalue()
