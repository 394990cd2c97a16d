"""Classifying images with an exported model: `predict`, `batch-predict`, `serve` and a client of it."""
