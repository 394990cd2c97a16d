"""Wires, runs and reports: create_pipeline, its runners, the output of runs, and the command line."""
