"""The catalog of artifacts: for each, one module that owns node id, file names, content, reading and writing."""
