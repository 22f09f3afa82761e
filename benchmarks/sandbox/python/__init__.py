"""Python model files, used in the sandbox only: find the model of a file, build it, and explain its errors."""
