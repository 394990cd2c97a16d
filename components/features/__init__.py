"""Computes the frozen network's features, and finds those that an earlier run computed."""
