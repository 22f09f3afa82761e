from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ablation.analysis.records import RecordedPlan
from ablation.analysis.table import make_table
from ablation.report.author_text import MAX_DEPTH, Block, parse_markdown, read_author_text
from ablation.report.pdf import write_report
from arch.errors import InputError
from benchmarks.records.store import RunRecord

PARAGRAPH = "We propose to add attention to each block of a small residual network. " * 4 + "\n\n"
HOSTILE = (
    '# #read("/etc/passwd") $x$ #panic()\n\n<script>alert(1)</script> \\input{x} @ref\n\n'
    '`#raw("x")` *#eval("1")* <label>\n\n'
    "[bad](javascript:alert(1)) [file](file:///etc/passwd) ![image](/etc/passwd)\n\n"
    + "x" * 900 + "\n\n" + ">" * 60 + " quote\n\n" + "- " * 30 + "item\n\n" + "**__" * 20 + "x" + "__**" * 20
    + "\n\nשלום 日本 e" + "\u0301" * 9 + " \u202e \x1b[31m &#0;\n\n```\n#let x = 1\n```\n\n***\n\n0. zero\n"
)  # fmt: skip


def leaves(block: Block) -> str:
    return str(block.get("text", "")) + "".join(map(leaves, block.get("children", ())))


def depth(block: Block) -> int:
    return 1 + max(map(depth, block.get("children", ())), default=0)


def types(block: Block) -> list[str]:
    return [block["type"], *(name for child in block.get("children", ()) for name in types(child))]


def write(text: str, folder: Path) -> Path:
    (folder / "text.md").write_text(text, encoding="utf-8")
    return folder / "text.md"


def test_blocks_of_a_text() -> None:
    blocks = parse_markdown("# T\n\na **b** *c* `d` [e](https://x.org)\n\n- f\n- g\n\n3. h\n")
    assert [block["type"] for block in blocks] == ["heading", "paragraph", "bullet_list", "ordered_list"]
    assert [leaves(block) for block in blocks] == ["T", "a b c d e", "fg", "h"]
    assert {"strong", "em", "code_inline", "link"} <= set(types(blocks[1]))
    assert blocks[3]["start"] == 3


def test_only_web_and_mail_links_are_links() -> None:
    text = "[a](https://x.org) [b](mailto:a@b.c) [c](page.md) [d](ftp://x.org) [e](javascript:alert)"
    [paragraph] = parse_markdown(text)
    [inline] = paragraph["children"]
    urls = [child.get("url") for child in inline["children"] if child["type"] == "link"]
    assert urls == ["https://x.org", "mailto:a@b.c", None, None]
    assert "javascript" in leaves(paragraph)  # not a valid link, so it is text


def test_html_and_images_are_text() -> None:
    [paragraph] = parse_markdown("<b>bold</b> ![a chart](/etc/passwd)")
    assert leaves(paragraph) == "<b>bold</b> [a chart]"


def test_deep_nesting_is_flattened_and_keeps_all_text() -> None:
    blocks = parse_markdown("- " * 30 + "item\n\n" + ">" * 60 + " quote\n\nend\n")
    assert max(map(depth, blocks)) <= MAX_DEPTH + 2
    assert "".join(map(leaves, blocks)) == "itemquoteend"


def test_long_words_can_be_broken() -> None:
    [paragraph] = parse_markdown("x" * 100)
    assert max(map(len, leaves(paragraph).split("\u200b"))) <= 24
    assert leaves(paragraph).replace("\u200b", "") == "x" * 100


def test_title_author_and_words(tmp_path: Path) -> None:
    text = read_author_text(" A title\x1b ", "Ada", write("\ufeffone *two* three", tmp_path))
    assert (text.title, text.author, text.num_words) == ("A title?", "Ada", 3)
    assert read_author_text(None, None, None).num_words == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read --text .*: No such file"),
        (b"", "contains no text"),
        (b"\n\n***\n", "contains no text"),
        (b"\xff\xfea", "is not UTF-8"),
        (b"a " * 30_000, "is larger than"),
    ],
)
def test_unusable_file_is_rejected_in_one_line(content: bytes | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "text.md"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read_author_text(None, None, file)
    assert "\n" not in str(error.value)


def test_long_title_is_rejected() -> None:
    with pytest.raises(InputError, match="--title has 200 characters; the maximum is 150"):
        read_author_text("x" * 200, None, None)


@pytest.fixture
def write_page(
    make_record: Callable[..., RunRecord], make_recorded: Callable[..., RecordedPlan], tmp_path: Path
) -> Callable[..., bytes]:
    """Return a function that writes the page of a small study with this text, and returns its content."""
    recorded = make_recorded("baseline+se", [make_record(seed=s) for s in (0, 1)] + [make_record("baseline+se")])

    def write_page(text: str, **fields: Any) -> bytes:
        author_text = replace(read_author_text("A title", "Ada", write(text, tmp_path)), **fields)
        return write_report(recorded, make_table(recorded), tmp_path / "a.pdf", author_text).read_bytes()

    return write_page


@pytest.mark.slow
@pytest.mark.parametrize("text", ["Ten words of a proposal.", PARAGRAPH * 8, HOSTILE])
def test_page_with_text_is_one_page(text: str, write_page: Callable[..., bytes]) -> None:
    content = write_page(text)
    assert content.count(b"/Type/Page/") == 1
    assert b"root:" not in content
    assert write_page(text) == content


def test_text_that_does_not_fit_is_refused_with_its_surplus(write_page: Callable[..., bytes], tmp_path: Path) -> None:
    words = len((PARAGRAPH * 40).split())
    with pytest.raises(
        InputError, match=rf"needs \d+ mm, and \d+ mm are free; remove about \d+ of its {words} words"
    ) as error:
        write_page(PARAGRAPH * 40)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "a.pdf").exists()


def test_title_replaces_the_default_title(write_page: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    layouts: list[dict[str, Any]] = []
    monkeypatch.setattr("ablation.report.pdf._compiler", lambda folder, layout: layouts.append(layout))
    with pytest.raises(AttributeError):  # the recorded compiler is None
        write_page("text")
    [layout] = layouts
    assert (layout["title"], layout["author"]) == ("A title", "Ada")
    assert layout["subtitle"].startswith("Ablation on digits: ")
    assert [leaves(block) for block in layout["text"]] == ["text"]
