"""Runs: from a config to a record, and many of them on an executor.

`run`, `execute_runs`, `overall_progress` and `runs_per_device` load no torch; the others run in worker processes.
"""
