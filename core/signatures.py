"""Names of the exported model's signatures and outputs, for clients, TFMA and our own code; importing loads nothing."""

EXAMPLES = "serving_default"
"""Signature that takes `examples`, serialized tf.Examples of which only `image/encoded` is needed."""

IMAGES = "serving_images"
"""Signature that takes `images`, encoded image files."""

CLASSIFY = "classify"
"""Signature for TensorFlow Serving's Classify; takes `inputs`, serialized tf.Examples, and gives classes and scores."""

LABELS = "transform_features"
"""Signature that takes `examples` and gives the label as the model counts it; TFMA needs it."""

ERROR = "error"
"""Output, string [n]: why an image got no prediction; empty where it got one."""
