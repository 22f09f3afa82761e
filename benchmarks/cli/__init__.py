"""The command line: shared options, the application, and the commands that belong to no other package."""
