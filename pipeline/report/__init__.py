"""The report of a run: one HTML page that needs nothing but a browser; see `make` for what to call."""
