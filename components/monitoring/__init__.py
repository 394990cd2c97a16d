"""What production looks like beside the test split: statistics, and which images are worth labeling; no TFX."""
