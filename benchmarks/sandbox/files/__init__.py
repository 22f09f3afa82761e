"""Model files, one module per format. They are opened in a sandboxed child only (see `benchmarks.sandbox.sandbox`)."""
