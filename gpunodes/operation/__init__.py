"""How a long operation runs: steps with clean-ups, progress, usual durations, the journal of a run."""
