"""What is wrong with a data set, told to its owner in words; `components.validation_gate` stops the run by it."""
