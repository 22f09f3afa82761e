"""The exception for a file that is not safe to look at."""


class FileRefused(RuntimeError):
    """A file was not opened: it would run code, or is built to do harm. The message says what would allow it."""
