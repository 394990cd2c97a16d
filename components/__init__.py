"""The TFX components, a module each; the packages beside them hold what these call."""
