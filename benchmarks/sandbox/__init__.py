"""Budget checks of untrusted model files, in a sandboxed child process."""
