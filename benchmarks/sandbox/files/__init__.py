"""Model files, one format a file. All of it runs in a sandboxed child only (see `benchmarks.sandbox.sandbox`)."""
