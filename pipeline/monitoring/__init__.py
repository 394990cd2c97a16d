"""`make monitor`: compares production with the test split of the model in service."""
