"""The catalog of artifacts: a module each, which owns its node id, its file names, and how to read and write them."""
