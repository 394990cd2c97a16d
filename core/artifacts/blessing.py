"""ModelBlessing: ModelGate's verdict in TFX's own form, which Pusher, resolvers and Vertex AI read.

Names as in tfx/components/evaluator/constants.py, which takes 22 s to import.
"""

from __future__ import annotations

MODEL_BLESSING = "ModelBlessing"  # TFX's name of the type

BLESSED_FILE, NOT_BLESSED_FILE = "BLESSED", "NOT_BLESSED"
"""Marker files; the artifact holds one of them."""

BLESSED = "blessed"  # custom property: 1 or 0

REJECTED = "rejected"  # custom property: 1 if someone rejected the model after it was blessed; absent otherwise

CURRENT_MODEL, CURRENT_MODEL_ID = "current_model", "current_model_id"
"""Custom properties: URI and id of the model that was judged."""

BASELINE_MODEL, BASELINE_MODEL_ID = "baseline_model", "baseline_model_id"
"""Custom properties: URI and id of the model it was compared with; absent if there was none."""
