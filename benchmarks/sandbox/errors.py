"""The exceptions of a file check."""


class FileRefused(RuntimeError):
    """A file was not opened, because it would run code or is built to do harm. The message says what would allow it."""


class FileCheckFailed(RuntimeError):
    """The check of a file exceeded a limit, failed, or ended without an answer.

    Attributes:
        printed: What the code of the file printed, if known.
    """

    def __init__(self, reason: str, printed: str = "") -> None:
        super().__init__(reason)
        self.printed = printed
