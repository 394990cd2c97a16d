"""Classifies images with an exported model: `predict`, `batch-predict`, `serve` and its client."""
