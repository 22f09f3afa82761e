"""Shorten an exception to one line for a message."""


def error_line(error: BaseException) -> str:
    """Return the type of an exception and the first line of its message."""
    try:
        message = (str(error).strip().splitlines() or [""])[0]
    except Exception:  # a model file may raise an exception whose __str__ fails
        message = ""
    return f"{type(error).__name__}: {message}".removesuffix(": ")
