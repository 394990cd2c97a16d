"""Classifying images with an exported model: `predict`, `batch-predict` and `serve`."""
