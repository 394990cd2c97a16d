"""The trained network as one SavedModel, with its checksums."""
