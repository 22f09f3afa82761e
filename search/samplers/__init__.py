"""Optuna samplers that propose candidates."""
