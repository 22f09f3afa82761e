"""What an author adds to the report: a title, a name, and a text in Markdown."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

from arch.errors import InputError
from arch.text import printable

MAX_LINE_CHARACTERS = 150  # of the title and of the author
MAX_TEXT_BYTES = 40_000  # several times the length that fits on a page
MAX_UNBROKEN_CHARACTERS = 24  # a longer word, such as an address, may be broken
MAX_DEPTH = 10  # of nested lists, quotes and emphasis on the page; deeper text loses its structure
MAX_PARSED_DEPTH = 100
LINK_SCHEMES = ("http:", "https:", "mailto:")

Block = Mapping[str, Any]  # a node of the text: its type, and its text or children


@dataclass(frozen=True)
class AuthorText:
    """What an author adds to the report.

    Attributes:
        title: The title; empty for the default title.
        author: The names of the authors.
        blocks: The paragraphs, headings and lists of the text, as plain data for the page's template.
        file: The file that contains the text, for messages.
    """

    title: str = ""
    author: str = ""
    blocks: tuple[Block, ...] = ()
    file: Path | None = None

    @property
    def num_words(self) -> int:
        """The number of words of the text."""
        return sum(map(_num_words, self.blocks))


NO_AUTHOR_TEXT = AuthorText()


def read_author_text(title: str | None, author: str | None, file: Path | None) -> AuthorText:
    """Return what the author adds.

    Args:
        title: The title.
        author: The names of the authors.
        file: A Markdown file.

    Raises:
        InputError: If the title or the author is too long, or the file cannot be read, is empty or is too long.
    """
    return AuthorText(
        _read_line("--title", title), _read_line("--author", author), () if file is None else _read_blocks(file), file
    )


def _read_line(option: str, text: str | None) -> str:
    line = printable((text or "").strip())
    if len(line) > MAX_LINE_CHARACTERS:
        raise InputError(f"{option} has {len(line)} characters; the maximum is {MAX_LINE_CHARACTERS}")
    return line


def _read_blocks(file: Path) -> tuple[Block, ...]:
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_TEXT_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read --text {file}: {error.strerror or error}") from error
    if len(content) > MAX_TEXT_BYTES:
        raise InputError(
            f"--text {file} is larger than {MAX_TEXT_BYTES:,} bytes and does not fit on a page: shorten it"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"--text {file} is not UTF-8 text: save it as UTF-8") from error
    blocks = parse_markdown(text)
    if not any(map(_num_words, blocks)):
        raise InputError(f"--text {file} contains no text: write some, or leave the option out")
    return blocks


def parse_markdown(text: str) -> tuple[Block, ...]:
    """Return the blocks of a CommonMark text. HTML is text, and images are replaced by their description.

    Raises:
        InputError: If the text is nested too deeply.
    """
    try:
        root = SyntaxTreeNode(MarkdownIt("commonmark", {"html": False, "maxNesting": MAX_PARSED_DEPTH}).parse(text))
        return tuple(_convert(node) for node in root.children)
    except RecursionError as error:
        raise InputError("the text is nested too deeply: remove emphasis or lists inside others") from error


def _convert(node: SyntaxTreeNode, depth: int = 0) -> Block:
    if depth == MAX_DEPTH:
        text = " ".join(leaf.content for leaf in node.walk() if not leaf.children)
        return {"type": "paragraph", "children": [{"type": "text", "text": _breakable(printable(text))}]}
    if node.type in ("text", "code_inline", "code_block", "fence"):
        lines = [printable(line.expandtabs(4)) for line in node.content.rstrip("\n").split("\n")]
        return {"type": node.type, "text": "\n".join(map(_breakable, lines))}
    if node.type == "image":
        return {"type": "text", "text": _breakable(printable(f"[{node.content or 'image'}]"))}
    converted: dict[str, Any] = {"type": node.type, "children": [_convert(child, depth + 1) for child in node.children]}
    if node.type == "link" and str(node.attrs["href"]).lower().startswith(LINK_SCHEMES):
        converted["url"] = printable(str(node.attrs["href"]))
    if node.type == "ordered_list":
        converted["start"] = int(node.attrs.get("start", 1))
    return converted


def _breakable(line: str) -> str:
    """Return the line with invisible places to break long words, which would leave the page otherwise."""
    return re.sub(rf"(\S{{{MAX_UNBROKEN_CHARACTERS}}})(?=\S)", "\\1\u200b", line)


def _num_words(block: Block) -> int:
    return len(block.get("text", "").split()) + sum(map(_num_words, block.get("children", ())))
