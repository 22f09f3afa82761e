import pickle
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from ablation.plans.plan import parse_plan
from ablation.plans.pretrained import recorded_network, resolve_weights, with_pretrained
from arch.errors import InputError
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.records.paths import initial_weights_file
from benchmarks.records.weights_file import digest_of

DIGITS = BENCHMARKS["digits"]


def write_weights(path: Path, value: float = 0.0) -> Path:
    save_file({"weight": np.full(3, value, np.float32)}, path)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_weights(tmp_path / "one.safetensors")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def resolved(text: str, out: Path | None) -> str:
    return str(with_pretrained(parse_plan(text, DIGITS), out))


def kept(out: Path) -> set[str]:
    return {path.name for path in (out / "initial").iterdir()} if (out / "initial").exists() else set()


def error_of(text: str, out: Path | None) -> str:
    with pytest.raises(InputError) as caught:
        resolved(text, out)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_plan_without_weights_is_unchanged(out: Path) -> None:
    assert resolved("baseline+se=16~eca@data=0.25", out) == "baseline+se=16~eca@data=0.25"
    assert not out.exists()


def test_files_are_replaced_by_digests_and_copied(file: Path, tmp_path: Path, out: Path) -> None:
    other = write_weights(tmp_path / "two words.safetensors", 1.0)
    one, two = digest_of(file), digest_of(other)
    plan = f"compare:resnet8,resnet8@init={file}@data=1/2,resnet8@teacher=(resnet20@init={other} @epochs=0)"
    expected = f"compare:resnet8,resnet8@data=1/2@init={one},resnet8@teacher=(resnet20@epochs=0@init={two})"
    result = with_pretrained(parse_plan(plan, DIGITS), out)
    assert str(result) == expected
    assert result.rows == parse_plan(expected, DIGITS).rows
    assert kept(out) == {f"one_{one}.safetensors", f"two_words_{two}.safetensors"}
    assert initial_weights_file(out, two).read_bytes() == other.read_bytes()


def test_labels_contain_the_digest_instead_of_the_file(file: Path) -> None:
    digest = digest_of(file)
    plan = with_pretrained(parse_plan(f"distill:resnet20@init={file}@epochs=0>resnet8", DIGITS), None)
    assert plan.rows[2].label == f"resnet20 of {digest} → resnet8"
    assert with_pretrained(plan, None) is plan


def test_home_directory_is_expanded(file: Path, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    source = f"~/{file.relative_to(tmp_path)}"
    assert resolved(f"baseline+se~eca@init={source}", out) == f"baseline+se~eca@init={digest_of(file)}"
    assert resolved(f"compare:resnet8@init={source}", out) == f"compare:resnet8@init={digest_of(file)}"


def test_digest_refers_to_the_copy_if_the_file_is_gone(file: Path, out: Path) -> None:
    plan = resolved(f"resnet8@init={file}", out)
    file.unlink()
    assert resolved(plan, out) == plan


def test_digest_without_a_copy_is_rejected_if_it_is_needed(out: Path) -> None:
    plan = "resnet8@init=0123456789abcdef"
    assert "has no weights 0123456789abcdef" in error_of(plan, out)
    assert resolved(plan, None) == plan


def test_no_copy_without_output_folder(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolved(f"resnet8@init={file.name}", None) == f"resnet8@init={digest_of(file)}"
    assert list(tmp_path.iterdir()) == [file]


def test_existing_copy_is_not_written_again(file: Path, out: Path) -> None:
    resolved(f"resnet8@init={file}", out)
    copy = initial_weights_file(out, digest_of(file))
    before = copy.stat()
    resolved(f"resnet8@init={file}", out)
    assert (copy.stat().st_ino, copy.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_file_named_like_a_digest_is_a_file(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = write_weights(Path("0123456789abcdef"))
    assert resolve_weights("0123456789abcdef", None, out) == digest_of(file) != "0123456789abcdef"


def test_unusable_file_is_rejected_in_one_line(tmp_path: Path, out: Path) -> None:
    (tmp_path / "pickle.safetensors").write_bytes(pickle.dumps({"weight": 1}))
    (tmp_path / "cut.safetensors").write_bytes(write_weights(tmp_path / "whole.safetensors").read_bytes()[:-4])
    assert "is a pickle, which can run arbitrary code" in error_of(f"resnet8@init={tmp_path}/pickle.safetensors", out)
    assert "truncated or damaged" in error_of(f"resnet8@init={tmp_path}/cut.safetensors", out)
    assert "there is no file" in error_of(f"resnet8@init={tmp_path}/none.safetensors", out)
    assert "is a folder" in error_of(f"resnet8@init={tmp_path}", out)
    assert "cannot read a?b" in error_of("resnet8@init=a\0b", out)
    assert "there is no file a?b" in error_of("resnet8@init=a\nb", out)
    assert not out.exists()


@pytest.mark.parametrize("setting", ["@init=", "@init= "])
def test_source_must_not_be_empty(setting: str) -> None:
    with pytest.raises(InputError, match="'@init' takes a value"):
        parse_plan(f"resnet8{setting}@data=1/2", DIGITS)


def test_unwritable_output_folder_is_reported_in_one_line(file: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    message = error_of(f"resnet8@init={file}", tmp_path / "taken")
    assert f"cannot copy {file} to --out {tmp_path / 'taken'}: " in message


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("two words", "two_words_"),
        ("a@b=c", "a_b=c_"),
        ("a,b", "a_b_"),
        ("(a)>b~c", "a__b~c_"),
        ("hub", "hub_"),
        ("-a", "-a_"),
        ("é🙂", ""),
    ],
)
def test_source_outside_a_plan_may_have_any_name(name: str, prefix: str, tmp_path: Path, out: Path) -> None:
    file = write_weights(tmp_path / name)
    assert resolve_weights(str(file), None, out) == digest_of(file)
    assert kept(out) == {f"{prefix}{digest_of(file)}.safetensors"}


@pytest.mark.parametrize(
    ("plan", "model"),
    [
        ("timm/resnet18@init=hub", "resnet18"),
        ("timm/resnet18/64@data=1/2@init=hub:a1_in1k", "resnet18.a1_in1k"),
        ("timm/resnet18.a1_in1k/64@init=hub", "resnet18.a1_in1k"),
        ("timm/resnet18.a1_in1k@init=hub:a1_in1k", "resnet18.a1_in1k"),
        ("compare:timm/resnet34.a1_in1k,timm/resnet18.a2_in1k@init=hub", "resnet18.a2_in1k"),
        ("resnet8@teacher=(timm/resnet18.a1_in1k@init=hub@epochs=0)", "resnet18.a1_in1k"),
        ("compare:timm/resnet34,timm/resnet18@init=hub", "resnet18"),
        ("compare:timm/resnet18@teacher=(timm/resnet34@teacher=(resnet8))@init=hub", "resnet18"),
        ("resnet8@teacher=(timm/resnet18@init=hub@epochs=0)", "resnet18"),
        ("datasize(1/2,1):timm/resnet18@init=hub", "resnet18"),
        ("distill(T=2):timm/resnet34>timm/resnet18@init=hub", "resnet18"),
    ],
)
def test_hub_weights_are_those_of_the_preceding_model(
    plan: str, model: str, file: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def call(function: str, report: object, name: str) -> Path:
        calls.append((function, name))
        return file

    monkeypatch.setattr("benchmarks.execution.local.LocalExecutor.call", staticmethod(call))
    assert f"@init={digest_of(file)}" in resolved(plan, out)
    assert calls == [("ablation.plans.pretrained:fetch", model)]
    source = f"hub_{model.partition('.')[2]}".rstrip("_")
    assert kept(out) == {f"{source}_{digest_of(file)}.safetensors"}


@pytest.mark.parametrize("source", ["hub:a2_in1k", "FILE"])
def test_tag_contradicts_other_weights(source: str, file: Path, out: Path) -> None:
    message = error_of(f"timm/resnet18.a1_in1k@init={source.replace('FILE', str(file))}", out)
    assert "has the tag a1_in1k" in message


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
def test_hub_has_only_weights_of_timm_models(plan: str, out: Path) -> None:
    assert "'@init=hub' needs a timm model" in error_of(plan, out)


def test_weights_of_an_earlier_run_are_an_untrained_teacher(tmp_path: Path) -> None:
    file = tmp_path / "a run, of (mine).safetensors"
    save_file(
        {"weight": np.zeros(3, np.float32)}, file, {"header": '{"spec": "resnet8+se@data=1/2@teacher=(resnet20)"}'}
    )
    network = recorded_network(file)
    assert (str(network.spec), network.is_trained, network.overrides.teacher) == ("resnet8+se", False, None)
    assert network.overrides.initial_weights == str(file)


def test_weights_without_a_spec_are_rejected(file: Path) -> None:
    with pytest.raises(InputError, match="does not contain the spec of its network"):
        recorded_network(file)
    with pytest.raises(InputError, match="there is no file"):
        recorded_network(Path("none.safetensors"))
