"""Names of the exported model's signatures and outputs, for clients, TFMA and our own code; importing loads nothing."""

EXAMPLES = "serving_default"  # takes `examples`: serialized tf.Examples, of which only `image/encoded` is needed
IMAGES = "serving_images"  # takes `images`: encoded image files
CLASSIFY = "classify"  # TensorFlow Serving's Classify: takes `inputs`, serialized tf.Examples; gives classes and scores
FEATURES = "serving_features"  # takes features at the cut instead of images; only a model trained on features has it
PIXELS = "pixels"  # takes `pixels`: images as the network reads them, for clients that preprocess themselves
LABELS = "transform_features"  # takes `examples`, gives the label as the model counts it; TFMA needs it
MAPS = "serving_maps"  # takes `images`; gives `pixels`, the last map whose grid is fine enough, `logits`, `error`
EMBED = "embed"  # takes `images`; gives `embedding`, the pooled features that the head sees, and `error`
NOVELTY = "novelty"  # output, float [n]: the fraction of the eval images that are more like the training images
REASON = "reason"  # output, string [n]: why `label` is withheld; empty if it is not
ERROR = "error"  # output, string [n]: why an image got no prediction; empty if it got one
