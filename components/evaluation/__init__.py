"""Is a model good enough: metrics, intervals, tests of bounds, and the verdict in words."""
