import pickle
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from ablation.plans.plan import read_plan
from ablation.plans.pretrained import keep, recorded_net, resolve_pretrained, with_pretrained
from arch.errors import InputError
from benchmarks.definition.benchmark import BENCHMARKS
from benchmarks.records.paths import initial_file
from benchmarks.records.weights_file import digest_of


def weights(path: Path, value: float = 0.0) -> Path:
    """A whole safetensors file."""
    save_file({"weight": np.full(3, value, np.float32)}, path)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return weights(tmp_path / "one.safetensors")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def kept(out: Path) -> set[str]:
    return {path.name for path in (out / "initial").iterdir()} if (out / "initial").exists() else set()


def refusal(plan: str, out: Path | None) -> str:
    with pytest.raises(InputError) as caught:
        with_pretrained(plan, out)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_a_plan_without_weights_is_as_it_was_and_nothing_made(out: Path) -> None:
    assert with_pretrained("baseline+se~eca@data=1/4", out) == "baseline+se~eca@data=1/4"
    assert not out.exists()


def test_each_file_becomes_its_digest_and_is_kept_beside_the_records(file: Path, tmp_path: Path, out: Path) -> None:
    other = weights(tmp_path / "two words.safetensors", 1.0)
    one, two = digest_of(file), digest_of(other)
    plan = f"compare:resnet8,resnet8@init={file}@data=1/2,resnet8@teacher=(resnet20@init={other} @epochs=0)"
    expected = f"compare:resnet8,resnet8@init={one}@data=1/2,resnet8@teacher=(resnet20@init={two}@epochs=0)"
    assert with_pretrained(plan, out) == expected
    assert kept(out) == {f"{one}.safetensors", f"{two}.safetensors"}
    assert initial_file(out, two).read_bytes() == other.read_bytes()
    assert len(read_plan(expected, BENCHMARKS["digits"])) == 3


def test_a_file_may_lie_in_ones_home(file: Path, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    plan = f"baseline+se~eca@init=~/{file.relative_to(tmp_path)}"
    assert with_pretrained(plan, out) == f"baseline+se~eca@init={digest_of(file)}"


def test_a_digest_stands_for_what_is_kept_when_the_file_is_gone(file: Path, out: Path) -> None:
    plan = with_pretrained(f"resnet8@init={file}", out)
    file.unlink()
    assert with_pretrained(plan, out) == plan


def test_a_digest_of_which_nothing_is_kept_is_refused_where_it_is_needed(out: Path) -> None:
    plan = "resnet8@init=0123456789abcdef"
    assert "has no weights 0123456789abcdef: name their file" in refusal(plan, out)
    assert with_pretrained(plan, None) == plan


def test_nothing_is_kept_where_no_folder_is_named(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert with_pretrained(f"resnet8@init={file.name}", None) == f"resnet8@init={digest_of(file)}"
    assert list(tmp_path.iterdir()) == [file]


def test_what_is_kept_is_not_written_again(file: Path, out: Path) -> None:
    with_pretrained(f"resnet8@init={file}", out)
    copy = initial_file(out, digest_of(file))
    before = copy.stat()
    with_pretrained(f"resnet8@init={file}", out)
    assert (copy.stat().st_ino, copy.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_file_called_like_a_digest_is_a_file(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = weights(Path("0123456789abcdef"))
    assert keep("0123456789abcdef", "", out) == digest_of(file) != "0123456789abcdef"


def test_a_file_that_cannot_be_used_is_one_line_and_nothing_is_kept(tmp_path: Path, out: Path) -> None:
    (tmp_path / "pickle.safetensors").write_bytes(pickle.dumps({"weight": 1}))
    (tmp_path / "cut.safetensors").write_bytes(weights(tmp_path / "whole.safetensors").read_bytes()[:-4])
    assert "it is a pickle, which can run any code" in refusal(f"resnet8@init={tmp_path}/pickle.safetensors", out)
    assert "cut off or damaged" in refusal(f"resnet8@init={tmp_path}/cut.safetensors", out)
    assert "there is no file" in refusal(f"resnet8@init={tmp_path}/none.safetensors", out)
    assert "is a folder" in refusal(f"resnet8@init={tmp_path}", out)
    assert "cannot read a?b" in refusal("resnet8@init=a\0b", out)
    assert "there is no file a?b" in refusal("resnet8@init=a\nb", out)
    assert not out.exists()


def test_no_name_is_left_to_the_plan_to_refuse(out: Path) -> None:
    plan = with_pretrained("resnet8@init=@data=1/2", out)
    with pytest.raises(InputError, match="'@init' takes a value"):
        read_plan(plan, BENCHMARKS["digits"])


def test_a_folder_that_cannot_be_written_is_one_line(file: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    assert f"cannot keep {file} in --out {tmp_path / 'taken'}: " in refusal(f"resnet8@init={file}", tmp_path / "taken")


@pytest.mark.parametrize("name", ["two words", "a@b=c", "a,b", "(a)>b~c", "hub", "-a", "é🙂"])
def test_any_name_may_stand_behind_pretrained(name: str, tmp_path: Path, out: Path) -> None:
    file = weights(tmp_path / name)
    assert resolve_pretrained(str(file), out) == digest_of(file)
    assert kept(out) == {f"{digest_of(file)}.safetensors"}


@pytest.mark.parametrize("word", ["hub", "hub:a1_in1k"])
def test_the_hubs_word_is_left_to_the_plan(word: str, out: Path) -> None:
    assert resolve_pretrained(word, out) == word
    assert not out.exists()


@pytest.mark.parametrize(
    ("plan", "fetched"),
    [
        ("timm/resnet18@init=hub", "resnet18"),
        ("timm/resnet18/64@data=1/2@init=hub:a1_in1k", "resnet18.a1_in1k"),
        ("compare:timm/resnet34,timm/resnet18@init=hub", "resnet18"),
        ("compare:timm/resnet18@teacher=(timm/resnet34@teacher=(resnet8))@init=hub", "resnet18"),
        ("resnet8@teacher=(timm/resnet18@init=hub@epochs=0)", "resnet18"),
        ("datasize(1/2,1):timm/resnet18@init=hub", "resnet18"),
        ("distill(T=2):timm/resnet34>timm/resnet18@init=hub", "resnet18"),
    ],
)
def test_the_hub_has_the_weights_of_the_model_that_its_word_stands_behind(
    plan: str, fetched: str, file: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def call(function: str, report: object, name: str) -> Path:
        asked.append((function, name))
        return file

    monkeypatch.setattr("benchmarks.execution.local.call", call)
    assert f"@init={digest_of(file)}" in with_pretrained(plan, out)
    assert asked == [("ablation.plans.pretrained:fetch", fetched)]
    assert kept(out) == {f"{digest_of(file)}.safetensors"}


@pytest.mark.parametrize(
    "plan",
    [
        "resnet8@init=hub",
        "compare:timm/resnet18,resnet8@init=hub",
        "distill:timm/resnet18>resnet8@init=hub",
        "resnet8@teacher=(timm/resnet18)@init=hub",
        "timm/resnet18@teacher=(resnet8@init=hub)",
    ],
)
def test_the_hub_has_no_weights_of_our_own_nets(plan: str, out: Path) -> None:
    assert "'@init=hub' stands behind a model of timm's" in refusal(plan, out)


def test_an_earlier_runs_weights_are_its_net_as_it_is(tmp_path: Path, out: Path) -> None:
    file = tmp_path / "a run, of (mine).safetensors"
    save_file(
        {"weight": np.zeros(3, np.float32)}, file, {"header": '{"spec": "resnet8+se@data=1/2@teacher=(resnet20)"}'}
    )
    assert recorded_net(str(file), out) == f"resnet8+se@init={digest_of(file)}@epochs=0"
    assert kept(out) == {f"{digest_of(file)}.safetensors"}


@pytest.mark.parametrize("word", ["resnet20", "timm/resnet18@init=hub", "timm/resnet18@init=w.safetensors"])
def test_what_is_no_file_of_weights_is_a_setup(word: str, out: Path) -> None:
    assert recorded_net(word, out) == word


def test_weights_that_do_not_say_whose_they_are_are_refused(file: Path, out: Path) -> None:
    with pytest.raises(InputError, match="does not say which net it is of: SPEC@init="):
        recorded_net(str(file), out)
    with pytest.raises(InputError, match="there is no file"):
        recorded_net("none.safetensors", out)
    assert not out.exists()
