"""Wires, runs and reports: create_pipeline, its runners, what runs leave, and the command line."""
