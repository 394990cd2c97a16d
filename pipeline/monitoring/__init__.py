"""`make monitor`: production beside the test split of the model in service."""
