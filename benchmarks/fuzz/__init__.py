"""What strangers may send us, by the million: whatever it is, it is read or refused in words, within bounds.

    make fuzz TARGETS="settings tables" INPUTS=100000 SEED=1

A target is one way in: it makes inputs from good ones, and says what became of each. An input follows from its target,
a seed and a number alone, so that anybody meets the same again: `python -m benchmarks.fuzz images --seed 1 --first 4711
--inputs 1`. Those that once did harm are kept in `tests/benchmarks/fuzz_cases`, a folder for each target.
"""
