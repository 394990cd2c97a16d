"""Pre-trained weights: where they come from, and how each format is read."""
