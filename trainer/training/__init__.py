"""Training the Estimator: what it reads, its loop, its checkpoints, how it resumes and starts warm."""
