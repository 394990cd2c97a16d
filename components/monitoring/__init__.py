"""Compares production with the test split, and selects images worth labeling. Needs no TFX."""
