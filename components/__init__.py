"""The TFX components, one module each; the packages beside them hold the libraries that these call."""
