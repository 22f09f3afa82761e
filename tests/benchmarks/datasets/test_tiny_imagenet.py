from pathlib import Path

import pytest

from benchmarks.datasets.tiny_imagenet import class_names

FOLDERS = ("n01443537", "n02012849", "n03126707", "n99999999")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n00001740\tentity\nn01443537\tgoldfish, Carassius auratus\n", ("goldfish", *FOLDERS[1:])),
        ("n01443537\tgoldfish\r\nn02012849\t crane , x\r\n", ("goldfish", "crane", *FOLDERS[2:])),
        (
            "n02012849\tcrane\nn03126707\tcrane, lifter\n",
            (FOLDERS[0], "crane (n02012849)", "crane (n03126707)", FOLDERS[3]),
        ),
        ("n01443537\tn99999999\n", ("n99999999 (n01443537)", *FOLDERS[1:3], "n99999999")),
        ("n01443537\tx\nn02012849\tx\nn03126707\tx (n01443537)\n", FOLDERS),
        ("n01443537\t\nn02012849\t,\nn03126707\nno tab\na\tb\tc\n\n", FOLDERS),
        ("n01443537\tgoldfish \udcff\n", ("goldfish \ufffd", *FOLDERS[1:])),
        ("", FOLDERS),
    ],
)
def test_class_names_are_first_synonyms_and_distinct(text: str, expected: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_bytes(text.encode(errors="surrogateescape"))
    names = class_names(tmp_path, FOLDERS)
    assert names == expected
    assert len(set(names)) == len(FOLDERS)


def test_without_a_list_the_names_are_those_of_the_folders(tmp_path: Path) -> None:
    assert class_names(tmp_path, FOLDERS) == FOLDERS
    (tmp_path / "words.txt").mkdir()
    assert class_names(tmp_path, FOLDERS) == FOLDERS
