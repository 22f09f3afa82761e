import hashlib
import json
import subprocess
import sys
from dataclasses import asdict, replace

import pytest

from ablation.plans.plan import parse_plan
from ablation.plans.preregistration import (
    DeclaredTest,
    EditedPreregistration,
    Preregistration,
    declare_benchmark,
    latest,
    parse_preregistration,
    preregister,
)
from benchmarks.definition.registry import BENCHMARKS

DIGITS = BENCHMARKS["digits"]
NOW = "2026-06-01T12:00:00+00:00"


@pytest.fixture
def declared() -> Preregistration:
    benchmark = declare_benchmark(DIGITS, "images", "cpu")
    return preregister(parse_plan("baseline+se", DIGITS), 6, DeclaredTest("unpaired", 0.3, 0.05), benchmark, NOW)


def sealed(content: dict[str, object]) -> bytes:
    """Return a file whose hash matches its content."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return json.dumps({**content, "sha256": hashlib.sha256(text.encode()).hexdigest()}).encode()


def test_a_preregistration_contains_rows_test_benchmark_and_code(declared: Preregistration) -> None:
    rows = parse_plan("baseline+se", DIGITS).rows
    assert [(row.spec, row.key) for row in declared.rows] == [(row.spec, row.key) for row in rows]
    assert (declared.benchmark.name, declared.benchmark.budget["max_params"]) == ("digits", DIGITS.budget.max_params)
    assert (declared.benchmark.definition["data"]["fingerprint"], declared.test.correction) == ("images", "Holm")
    assert {"torch", "timm", "timm-ablate", "python"} <= set(declared.code.versions)
    assert "final epoch" in declared.metric


def test_the_hash_does_not_depend_on_the_order_of_keys_and_the_layout(declared: Preregistration) -> None:
    content = declared.to_json()
    for text in (json.dumps(content), json.dumps(content, indent=7, sort_keys=True), json.dumps(content) + "\r\n"):
        assert parse_preregistration(text.encode()) == declared
    reordered = json.dumps(dict(reversed(content.items())))
    assert parse_preregistration(reordered.encode()).sha256 == content["sha256"] == declared.sha256


def test_the_hash_can_be_verified_without_this_package(declared: Preregistration) -> None:
    code = """
import hashlib, json, sys
content = json.load(sys.stdin)
sha256 = content.pop("sha256")
text = json.dumps(content, sort_keys=True, separators=(",", ":"))
print(hashlib.sha256(text.encode()).hexdigest() == sha256)
"""
    command = [sys.executable, "-c", code]
    text = json.dumps(declared.to_json())
    assert subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout.strip() == "True"


def test_every_field_is_part_of_the_hash(declared: Preregistration) -> None:
    test, code = declared.test, declared.code
    changed = [
        replace(declared, declared="2026-06-01T12:00:01+00:00"),
        replace(declared, seeds=7),
        replace(declared, rows=declared.rows[:1]),
        replace(declared, test=replace(test, pairing="paired")),
        replace(declared, test=replace(test, equivalence=None)),
        replace(declared, benchmark=replace(declared.benchmark, id="other")),
        replace(declared, code=replace(code, commit="abc")),
        replace(declared, code=replace(code, plugins={"a.py": "1"})),
    ]
    assert len({declared.sha256, *(other.sha256 for other in changed)}) == len(changed) + 1
    assert [declared.declares_the_same(other) for other in changed] == [True] + [False] * 7


def test_an_edited_file_is_recognized(declared: Preregistration) -> None:
    with pytest.raises(EditedPreregistration):
        parse_preregistration(json.dumps({**declared.to_json(), "seeds": 5}).encode())
    assert parse_preregistration(sealed({**asdict(declared), "seeds": 5})).seeds == 5


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"seeds": 0},
        {"seeds": "6"},
        {"declared": "yesterday"},
        {"declared": "2026-06-01T12:00:00"},
        {"rows": []},
        {"rows": [{"label": "a", "spec": "a", "key": "a", "against": [[3, -1]], "kind": "step", "series": ""}]},
        {"unknown": 1},
        {"benchmark": {}},
    ],
)
def test_invalid_content_is_rejected(changes: dict[str, object], declared: Preregistration) -> None:
    with pytest.raises(ValueError, match=r".") as info:
        parse_preregistration(sealed({**json.loads(json.dumps(asdict(declared))), **changes}))
    assert not isinstance(info.value, EditedPreregistration)


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{", b"\xff\xfe", b'{"seeds": NaN}'])
def test_damaged_content_is_rejected(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_preregistration(content)


def test_the_latest_preregistration_is_first(declared: Preregistration) -> None:
    later = replace(declared, declared="2026-07-01T12:00:00+00:00")
    assert latest([declared, later, declared]) == [later, declared]
