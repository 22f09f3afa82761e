"""The exceptions of a file check."""


class FileRefused(RuntimeError):
    """A file was not opened because it would run code or is malicious. The message names the option that allows it."""


class FileCheckFailed(RuntimeError):
    """The check of a file exceeded a limit, failed, or exited without a result.

    Attributes:
        printed: What the code of the file printed, if known.
    """

    def __init__(self, reason: str, printed: str = "") -> None:
        super().__init__(reason)
        self.printed = printed
