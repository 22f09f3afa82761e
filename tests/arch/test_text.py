from arch.text import shorten


def test_long_name_keeps_both_ends() -> None:
    assert shorten("+drop_path=0.2") == "+drop_path=0.2"
    assert shorten("abcdefghij", 5) == "ab…ij"
    assert len(shorten("x" * 500)) == 30


def test_name_is_printable() -> None:
    assert shorten("a\x1b[31m\ud800\u202eb") == "a?[31m??b"
    assert shorten("e" + "\u0301" * 40) == "e\u0301\u0301"
