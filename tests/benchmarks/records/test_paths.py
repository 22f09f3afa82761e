from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.definition.names import MAX_FILE_NAME_CHARACTERS, safe_file_name
from benchmarks.records.paths import RunName, checkpoint_folder, initial_weights_file, initial_weights_names, run_file

NAME = RunName("digits", "41a6f42a707c", "resnet8+se", "0fb1e2f5a9d34c66", 0)


def touch(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    return file


def test_files_of_a_run_are_named_after_benchmark_spec_and_seed(tmp_path: Path) -> None:
    file = run_file(tmp_path, "weights", NAME)
    assert file.relative_to(tmp_path) == Path(
        "weights/digits_41a6f42a707c/resnet8+se_seed0_0fb1e2f5a9d34c66.safetensors"
    )


@pytest.mark.parametrize(
    "name",
    [
        replace(NAME, spec="compare:" + "x/" * 200, key="0123456789abcdef-01234567", seed=999),
        replace(NAME, benchmark="b" * 200, benchmark_id="../" * 40, spec="../../up", key="k" * 300, seed=10**40),
        replace(NAME, spec="", benchmark="", key="", benchmark_id=""),
    ],
)
def test_names_are_short_and_safe(name: RunName, tmp_path: Path) -> None:
    file = run_file(tmp_path, "weights", name)
    assert file.parent.parent == tmp_path / "weights"
    assert all(len(part) <= MAX_FILE_NAME_CHARACTERS and part != ".." and "/" not in part for part in file.parts[-2:])
    assert file.suffix == ".safetensors"
    assert len(checkpoint_folder(tmp_path, "x" * 300).name) <= MAX_FILE_NAME_CHARACTERS


def test_specs_with_the_same_safe_name_have_different_files(tmp_path: Path) -> None:
    one = replace(NAME, spec="resnet8@data=1/2", key="aaaa-1111")
    other = replace(NAME, spec="resnet8_data=1_2", key="aaaa-2222")
    assert run_file(tmp_path, "weights", one) != run_file(tmp_path, "weights", other)


def test_existing_file_is_found_under_another_spec_of_the_same_config(tmp_path: Path) -> None:
    file = touch(run_file(tmp_path, "weights", NAME))
    assert run_file(tmp_path, "weights", replace(NAME, spec="resnet8-se+se", benchmark="renamed")) == file
    for other in (replace(NAME, seed=1), replace(NAME, key="fb1e2f5a9d34c66"), replace(NAME, benchmark_id="1")):
        assert run_file(tmp_path, "weights", other) != file
    assert run_file(tmp_path, "predictions", NAME) != file


def test_initial_weights_keep_the_name_of_their_file(tmp_path: Path) -> None:
    digest = "0123456789abcdef"
    file = touch(initial_weights_file(tmp_path, digest, "my weights"))
    assert file.name == "my_weights_0123456789abcdef.safetensors"
    assert initial_weights_file(tmp_path, digest) == initial_weights_file(tmp_path, digest, "other") == file
    assert dict(initial_weights_names(tmp_path)) == {digest: "my_weights"}
    assert initial_weights_file(tmp_path, "123456789abcdef").name == "123456789abcdef.safetensors"
    assert len(initial_weights_file(tmp_path, "f" * 16, "n" * 300).name) <= MAX_FILE_NAME_CHARACTERS
    assert initial_weights_file(tmp_path, "f" * 16, "é🙂").name == f"{'f' * 16}.safetensors"


def test_long_names_with_the_same_start_differ() -> None:
    names = {safe_file_name("a" * 100 + ending, 40) for ending in ("/", "_", "b")}
    assert len(names) == 3
    assert {len(name) for name in names} == {40}
    assert safe_file_name("a/b c", 40) == "a_b_c"
