from arch.text import plural, shorten


def test_long_name_keeps_both_ends() -> None:
    assert shorten("+drop_path=0.2") == "+drop_path=0.2"
    assert shorten("abcdefghij", 5) == "ab…ij"
    assert len(shorten("x" * 500)) == 44


def test_links_of_a_chain_can_be_told_apart() -> None:
    teacher, student = "timm/resnet34/224", "resnet8+se+drop_path=0.101+width=0.5"
    chains = [f"{teacher} → {student}", f"{student} → {teacher}", f"{teacher} → {student} → {student}"]
    for max_characters in (24, 30, 60):
        shown = [shorten(chain, max_characters) for chain in chains]
        assert max(map(len, shown)) <= max_characters
        assert len(set(shown)) == 3
        assert [name.count(" → ") for name in shown] == [1, 1, 2]
    assert shorten(f"ab → {'x' * 50}", 13) == "ab → xxxx…xxx"
    assert len(shorten(" → ".join("abcdefgh"), 13)) == 13


def test_short_words_in_trailing_parentheses_are_kept() -> None:
    chain = "resnet8 → resnet8+se+width=0.5"
    assert shorten(f"{chain} (dkd)", 30) == shorten(chain, 24) + " (dkd)"
    assert shorten(f"{chain} (standardize)", 24) == "resne…=0.5 (standardize)"
    assert shorten(f"{chain} ({'x' * 40})", 30) == "resnet8 → resnet8+se…xxxxxxxx)"


def test_shortening_twice_leaves_one_ellipsis_per_name() -> None:
    for name in ("x" * 50, "resnet8 → resnet8+se+width=0.5 (dkd)", "resnet8 → resnet8+width=0.5 → resnet8+width=0.5"):
        assert "……" not in shorten(shorten(name, 30), 24)


def test_name_is_printable() -> None:
    assert shorten("a\x1b[31m\ud800\u202eb") == "a?[31m??b"
    assert shorten("e" + "\u0301" * 40) == "e\u0301\u0301"


def test_count_agrees_with_its_noun() -> None:
    assert [plural(count, "run") for count in (0, 1, 1200)] == ["0 runs", "1 run", "1,200 runs"]
    assert [plural(count, "class", "classes") for count in (1, 2)] == ["1 class", "2 classes"]
