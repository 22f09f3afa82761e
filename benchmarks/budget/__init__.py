"""Budget checks: the cost of a model, its predicted training hours, and the verdict under a benchmark's budget."""
