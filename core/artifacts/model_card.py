"""The model card in the folder of a pushed version: what the model is for, how good it is, and how to make it again."""

FILE_NAME = "model_card.md"
"""Beside `saved_model.pb`; model servers do not look at it."""
