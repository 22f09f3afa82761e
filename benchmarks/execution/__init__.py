"""Worker processes, local or on a Ray cluster, with progress, signals and device selection."""
