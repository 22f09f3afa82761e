"""Statistics, tables and error analysis of recorded runs. No module here imports torch."""
