"""Experiment trackers: export of records, and tracking of runs in training."""
