"""Decides whether a model is good enough: metrics, intervals, tests of bounds, and the verdict in words."""
