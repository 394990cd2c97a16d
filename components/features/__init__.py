"""The frozen network's features: computing them, and finding those that an earlier run computed."""
