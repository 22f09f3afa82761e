"""The commands of `ablate`, one module each.

The top of a command module imports only what `--help` needs, so that it stays fast; each function imports the rest.
"""
