from pathlib import Path

import pytest

from ablation.plans.labels import merge_labels, name_rows
from ablation.plans.plan import Plan, parse_plan
from arch.errors import InputError
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.records.paths import initial_weights_file

DIGITS = BENCHMARKS["digits"]
ONE, OTHER = "0123456789abcdef", "fedcba9876543210"


def parsed(text: str) -> Plan:
    return parse_plan(text, DIGITS)


def labels(plan: Plan) -> list[str]:
    return [row.label for row in plan.rows]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    for digest, name in ((ONE, "mine"), (OTHER, "mine")):
        file = initial_weights_file(tmp_path, digest, name)
        file.parent.mkdir(exist_ok=True)
        file.touch()
    return tmp_path


def test_labels_are_kept_for_later_commands_and_longer_plans(tmp_path: Path) -> None:
    plan = parsed("baseline+se")
    named = name_rows(plan, [tmp_path], ["+se=SENet", "baseline=ResNet-8"])
    assert labels(named) == ["ResNet-8", "SENet"]
    assert [row.key for row in named.rows] == [row.key for row in plan.rows]
    assert str(named) == "baseline+se"
    assert labels(name_rows(parsed("baseline+se+cbam"), [tmp_path])) == ["ResNet-8", "SENet", "+cbam"]
    assert labels(name_rows(parsed("compare:resnet20,resnet8+se"), [tmp_path])) == ["resnet20", "resnet8+se"]
    assert labels(name_rows(plan, [tmp_path / "other"])) == ["baseline (resnet8)", "+se"]


@pytest.mark.parametrize("word", ["+width=2", "resnet8+width=2"])
def test_row_is_named_by_its_label_or_its_spec(word: str, tmp_path: Path) -> None:
    assert labels(name_rows(parsed("baseline+width=2"), [tmp_path], [f"{word}=a=b"]))[1] == "a=b"


def test_new_label_replaces_the_old_one_and_an_empty_label_restores_the_default(tmp_path: Path) -> None:
    plan = parsed("baseline+se")
    name_rows(plan, [tmp_path], ["+se=SENet"])
    assert labels(name_rows(plan, [tmp_path], ["SENet=Squeeze"]))[1] == "Squeeze"
    assert labels(name_rows(plan, [tmp_path], ["+se="]))[1] == "+se"
    assert labels(name_rows(plan, [tmp_path]))[1] == "+se"


def test_label_of_a_series_names_its_rows(tmp_path: Path) -> None:
    plan = name_rows(parsed("datasize(1/2,1):resnet8,resnet20"), [tmp_path], ["resnet8=small", "resnet20 1/2=half"])
    assert labels(plan) == ["small 1/2", "small all", "half", "resnet20 all"]
    assert [row.series for row in plan.rows] == ["small", "small", "resnet20", "resnet20"]


@pytest.mark.parametrize(
    "text",
    [
        "+eca=ECA",
        "SENet",
        "+se",
        f"+se={'x' * 61}",
        "+se=a\nb",
        "+se=baseline (resnet8)",
        "+se=baseline",
        "+se=resnet8+eca",
    ],
)
def test_invalid_label_is_rejected_and_not_stored(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--label"):
        name_rows(parsed("baseline+se"), [tmp_path], [text])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content", ["", "{}", "[1]", '[{"key": 1}]', '[{"key": "a", "row": "b", "label": "c"},]', "\xff"]
)
def test_damaged_file_is_rejected_and_not_overwritten(content: str, tmp_path: Path) -> None:
    file = tmp_path / "labels.json"
    file.write_text(content, encoding="latin-1")
    for new_labels in ((), ("+se=SENet",)):
        with pytest.raises(InputError, match=r"labels\.json"):
            name_rows(parsed("baseline+se"), [tmp_path], new_labels)
    with pytest.raises(InputError, match=r"labels\.json"):
        merge_labels(tmp_path, [tmp_path / "other"])
    assert file.read_text(encoding="latin-1") == content


def test_label_that_names_two_rows_of_another_plan_is_not_used_there(tmp_path: Path) -> None:
    name_rows(parsed("compare:resnet8,resnet20"), [tmp_path], ["resnet8=mine"])
    name_rows(parsed("compare:resnet8+se,resnet20"), [tmp_path], ["resnet8+se=mine", "resnet20=large"])
    plan = parsed("compare:resnet20,resnet8,resnet8+se")
    assert labels(name_rows(plan, [tmp_path])) == ["large", "resnet8", "resnet8+se"]


def test_label_that_names_two_series_of_another_plan_is_not_used_there(tmp_path: Path) -> None:
    for model in ("resnet8", "resnet20"):
        name_rows(parsed(f"datasize(1/2,1):{model}"), [tmp_path], [f"{model}=mine"])
    plan = name_rows(parsed("datasize(1/2,1):resnet8,resnet20"), [tmp_path])
    assert [row.series for row in plan.rows] == ["resnet8", "resnet8", "resnet20", "resnet20"]
    assert labels(plan) == ["resnet8 1/2", "resnet8 all", "resnet20 1/2", "resnet20 all"]


def test_labels_of_the_first_folder_take_precedence(tmp_path: Path) -> None:
    plan = parsed("baseline+se")
    name_rows(plan, [tmp_path / "a"], ["+se=of a"])
    name_rows(plan, [tmp_path / "b"], ["+se=of b", "baseline=base of b"])
    assert labels(name_rows(plan, [tmp_path / "a", tmp_path / "b"])) == ["base of b", "of a"]


def test_initial_weights_are_named_after_their_file(out: Path) -> None:
    plan = parsed(f"compare:resnet8,resnet8@init={ONE}@epochs=2,resnet8@init={'a' * 16}")
    assert labels(name_rows(plan, [out])) == ["resnet8", "@epochs=2@init=mine", "@init=aaaaaa"]
    teacher = name_rows(parsed(f"distill:resnet20@init={ONE}@epochs=0>resnet8"), [out])
    assert "resnet20 of mine → resnet8" in labels(teacher)
    series = name_rows(parsed(f"datasize(1/2,1):resnet8,resnet8@init={ONE}"), [out]).rows[-1]
    assert (series.label, series.series) == ("resnet8@init=mine all", "resnet8@init=mine")


def test_weights_of_the_same_name_are_told_apart(out: Path) -> None:
    plan = parsed(f"compare:resnet8,resnet8@init={ONE},resnet8@init={OTHER}")
    assert labels(name_rows(plan, [out])) == ["resnet8", "@init=mine (012345)", "@init=mine (fedcba)"]
