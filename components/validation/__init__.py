"""Finds what is wrong with a data set, in words for its owner; `components.validation_gate` stops the run."""
