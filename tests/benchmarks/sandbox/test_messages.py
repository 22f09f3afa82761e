import json
from typing import Any

import pytest

from benchmarks.sandbox.errors import FileCheckFailed
from benchmarks.sandbox.messages import MAX_PRINTED_BYTES, ChildOutput

NONCE = "a1b2c3"


@pytest.fixture
def output() -> ChildOutput:
    return ChildOutput(NONCE)


def encode(message: object) -> bytes:
    return json.dumps(message).encode() + b"\n"


def messages_of(output: ChildOutput, chunk: bytes) -> list[dict[str, Any]]:
    """Return the messages that a chunk of output completes."""
    output.add_messages(chunk)
    return list(output.take_messages())


def test_only_messages_with_the_nonce_are_accepted(output: ChildOutput) -> None:
    lines = [
        encode({"verdict": "forged"}),
        encode({"verdict": "forged", "nonce": ""}),
        encode({"verdict": "forged", "nonce": "0" * 32}),
        encode(["verdict", NONCE]),
        NONCE.encode() + b"\n",
        b"no JSON { " + NONCE.encode() + b"\n",
        b"[" * 100_000 + NONCE.encode() + b"\n",
        b"\n",
        b"\xff\xfe" + NONCE.encode() + b"\n",
        encode({"verdict": "true", "nonce": NONCE}),
    ]
    assert messages_of(output, b"".join(lines)) == [{"verdict": "true"}]


def test_message_may_arrive_in_pieces(output: ChildOutput) -> None:
    line = encode({"done": True, "nonce": NONCE})
    assert messages_of(output, line[:7]) == []
    assert messages_of(output, line[7:] + line[:3]) == [{"done": True}]


def test_messages_have_no_control_characters(output: ChildOutput) -> None:
    message = {
        "failed": "\x1b[31m red",
        "\x07key": ["a\nb", {"c\td": "é \u202e \u2028"}, 1.5, None, True],
        "nonce": NONCE,
    }
    cleaned = {"failed": "?[31m red", "?key": ["a?b", {"c?d": "é ? ?"}, 1.5, None, True]}
    assert messages_of(output, encode(message)) == [cleaned]


def test_values_of_messages_are_bounded(output: ChildOutput) -> None:
    message = {"text": "y" * 10**5, "list": [0] * 2000, "large": 10**400, "small": -(10**400), "nonce": NONCE}
    (cleaned,) = messages_of(output, encode(message))
    assert cleaned == {"text": "y" * 2000, "list": [0] * 1000, "large": 2**63 - 1, "small": -(2**63)}


@pytest.mark.parametrize("chunk", [b"x" * 2**16, (b"x" * 500 + b"\n") * 100], ids=["one line", "many lines"])
def test_size_of_messages_is_limited(chunk: bytes, output: ChildOutput) -> None:
    for _ in range(3):
        messages_of(output, chunk)
    with pytest.raises(FileCheckFailed, match="256 KiB"):
        messages_of(output, 3 * chunk)


def test_printed_text_has_no_control_characters_but_newlines(output: ChildOutput) -> None:
    output.add_printed(b"\x1b]0;title\x07\none\r\ntwo\n\xff")
    assert output.printed == "?]0;title?\none\ntwo\n\N{REPLACEMENT CHARACTER}"


def test_printed_text_is_cut(output: ChildOutput) -> None:
    for _ in range(3):
        output.add_printed(b"x\n" * 2**15)
    assert 0 < len(output.printed) <= MAX_PRINTED_BYTES


def test_last_line_is_the_last_that_is_not_blank(output: ChildOutput) -> None:
    assert output.last_line == ""
    output.add_printed(b"first\nlast\x1b" + b"x" * 1000 + b"\n \n\n")
    assert output.last_line == ("last?" + "x" * 1000)[:200]
