"""The `budget-check` command, diagnostics, and the command-line options that all commands share."""
