"""`ablate` as a person uses it, on real digits."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ablation.cli import main
from arch.plans import PLANS
from benchmarks.definition.benchmark import BENCHMARKS
from benchmarks.records.store import FailedRun, RecordStore, RunRecord

COMMAND = [sys.executable, "-c", "from ablation.cli import main; raise SystemExit(main())"]
ROOT = Path(__file__).parent.parent.parent


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]


def numbers(record: dict[str, Any]) -> dict[str, Any]:
    """What two runs of one seed must agree in: everything but times."""
    curve = [{name: value for name, value in line.items() if "seconds" not in name} for line in record["curve"]]
    kept = ("spec", "key", "seed", "benchmark_id", "params", "macs", "images_seen", "top1", "top5", "per_class")
    return {**{name: record[name] for name in kept}, "curve": curve}


@pytest.mark.slow
def test_a_run_ends_in_records_table_and_plot_and_again_is_instant(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["run", "baseline+se+cbam", "--benchmark", str(tiny), "--seeds", "2", "--out", str(out)]
    assert main(arguments) == 0
    first = capsys.readouterr()
    for cell in ("baseline (resnet8)", "+se", "+cbam", " ± "):
        assert cell in first.out
    assert "6 of 6 runs" in first.err
    written = records(out)
    assert [(record["spec"], record["seed"]) for record in written] == [
        (spec, seed) for seed in (0, 1) for spec in ("resnet8", "resnet8+se", "resnet8+se+cbam")
    ]
    assert all(len(record["curve"]) == 3 and record["top1"] == record["curve"][-1]["top1"] for record in written)
    assert len({record["top1"] for record in written}) > 1
    assert len(list((out / "weights").iterdir())) == 6
    assert list((out / "checkpoints").iterdir()) == []
    assert main(arguments) == 0
    second = capsys.readouterr()
    assert second.out == first.out
    assert second.err == ""
    assert records(out) == written


@pytest.mark.slow
def test_more_seeds_and_another_spelling_train_only_what_is_new(tiny: Path, tmp_path: Path) -> None:
    shared = ["--benchmark", str(tiny), "--out", str(tmp_path / "out")]
    assert main(["run", "baseline+se", "--seeds", "1", *shared]) == 0
    assert main(["run", "resnet8+se=16-se", "--seeds", "2", *shared]) == 0
    specs = [(record["spec"], record["seed"]) for record in records(tmp_path / "out")]
    assert specs == [("resnet8", 0), ("resnet8+se", 0), ("resnet8", 1), ("resnet8+se", 1)]


@pytest.mark.slow
def test_killed_or_stopped_in_the_middle_it_goes_on_to_the_same_numbers(tiny: Path, tmp_path: Path) -> None:
    tiny.write_text(tiny.read_text().replace("epochs = 3", "epochs = 30"))
    spec = "baseline+drop_path=0.2"
    shared = ["run", spec, "--benchmark", str(tiny), "--seeds", "1", "--device", "cpu"]
    assert subprocess.run([*COMMAND, *shared, "--out", str(tmp_path / "whole")], cwd=ROOT).returncode == 0
    broken = tmp_path / "broken"
    for number, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 75), (signal.SIGINT, 130)):
        process = subprocess.Popen([*COMMAND, *shared, "--out", str(broken)], cwd=ROOT, stderr=subprocess.PIPE)
        wait_for_a_checkpoint_newer_than(time.time(), broken, process)
        process.send_signal(number)
        _, said = process.communicate()
        assert process.returncode == code
        assert said.endswith(b"ablate: stopped; the same command goes on from here\n") is (code > 0)
        assert len(list(broken.glob("checkpoints/*/*.safetensors"))) > 0
        assert (broken / ".holder.json").exists() is (code < 0)
    assert subprocess.run([*COMMAND, *shared, "--out", str(broken)], cwd=ROOT).returncode == 0
    assert [numbers(record) for record in records(broken)] == [
        numbers(record) for record in records(tmp_path / "whole")
    ]


def wait_for_a_checkpoint_newer_than(moment: float, out: Path, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        if any(file.suffix == ".safetensors" and file.stat().st_mtime > moment for file in out.glob("checkpoints/*/*")):
            return
        time.sleep(0.01)


@pytest.mark.slow
def test_json_on_standard_output_is_json_and_nothing_else(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = ["--benchmark", str(tiny), "--out", str(tmp_path / "out"), "--json"]
    assert main(["run", "baseline", "--seeds", "1", *shared]) == 0
    content = json.loads(capsys.readouterr().out)
    assert [row["step"] for row in content["rows"]] == ["baseline (resnet8)"]
    assert content["rows"][0]["top1_std"] is None
    assert content["failures"] == []
    assert all(Path(file).exists() for file in content["files"])
    assert main(["table", *shared]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == content["rows"]
    assert content["benchmark_id"] == records(tmp_path / "out")[0]["benchmark_id"]


@pytest.mark.slow
def test_the_table_of_a_benchmark_of_ones_own_needs_no_file(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    assert main(["run", "baseline", "--seeds", "1", "--benchmark", str(tiny), "--out", out]) == 0
    printed = capsys.readouterr().out
    tiny.unlink()
    assert main(["table", "--out", out, "--seeds", "1"]) == 0
    assert capsys.readouterr().out == printed.partition("written: ")[0]
    line = one_line_of(2, ["table", "baseline+width=3-width=3+eca-eca", "--out", out, "--benchmark", "digits"], capsys)
    assert "no such records of digits" in line
    assert "no records of resnet20 under tiny" in one_line_of(2, ["table", "resnet20", "--out", out], capsys)


@pytest.mark.slow
def test_trainings_side_by_side_are_told_of_in_the_caption(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = ["--benchmark", str(tiny), "--out", str(tmp_path / "out"), "--json"]
    assert main(["run", "baseline", "--seeds", "2", "--runs-per-device", "2", *shared]) == 0
    captured = capsys.readouterr()
    assert "2 trainings share the device" in captured.err
    content = json.loads(captured.out)
    assert "times of up to 2 trainings sharing the device" in content["caption"]
    assert content["rows"][0]["n"] == 2
    assert {record["runs_per_device"] for record in records(tmp_path / "out")} == {2}


@pytest.mark.slow
def test_the_last_row_can_be_trained_alone(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shared = ["--benchmark", str(tiny), "--out", str(tmp_path / "out"), "--json"]
    assert main(["run", "baseline+se+drop_path", "--last", "--seeds", "1", *shared]) == 0
    content = json.loads(capsys.readouterr().out)
    assert [record["spec"] for record in records(tmp_path / "out")] == ["resnet8+se+drop_path"]
    assert [row["step"] for row in content["rows"]] == ["+drop_path"]


@pytest.mark.slow
def test_a_run_that_fails_is_reported_and_the_rest_goes_on(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_text(tiny.read_text().replace("lr = 0.05", "lr = 1e30"))
    code = main(["run", "baseline+se", "--benchmark", str(tiny), "--seeds", "1", "--out", str(tmp_path / "out")])
    captured = capsys.readouterr()
    assert code == 3
    assert "baseline (resnet8) seed 0 failed: TrainingFailed: the loss is nan after epoch" in captured.out
    assert "+se seed 0 failed" in captured.out
    assert captured.out.count("0 of 1 (1 failed)") == 2
    assert "no result" not in captured.out
    table = (tmp_path / "out" / "tiny_baseline+se.md").read_text()
    assert "+se seed 0 failed: TrainingFailed: the loss is nan after epoch" in table


@pytest.mark.slow
def test_a_failure_stays_in_the_table_until_it_is_made_good(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shared = ["--benchmark", str(tiny), "--out", str(out)]
    assert main(["run", "baseline", "--seeds", "1", *shared]) == 0
    done = RecordStore(out).results()[0]
    RecordStore(out).append(
        FailedRun(done.spec, done.key, 1, done.benchmark_id, "baseline", "its process was killed", "", "2026")
    )
    RecordStore(out).append(
        FailedRun(done.spec, done.key, 2, "another", "baseline", "of another benchmark", "", "2026")
    )
    capsys.readouterr()
    assert main(["table", "--seeds", "2", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "1 of 2 (1 failed)" in printed
    assert "baseline (resnet8) seed 1 failed: its process was killed\n" in printed
    assert "another" not in printed
    assert main(["table", "--seeds", "2", "--json", "--out", str(out)]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["failures"] == [{"step": "baseline (resnet8)", "seed": 1, "reason": "its process was killed"}]
    assert (content["rows"][0]["n"], content["rows"][0]["failed"], content["rows"][0]["seeds"]) == (1, 1, 2)
    assert main(["run", "baseline", "--seeds", "2", *shared]) == 0
    assert "failed" not in capsys.readouterr().out
    assert [record["seed"] for record in records(out)] == [0, 1]
    assert main(["table", "--seeds", "3", "--out", str(out)]) == 0
    assert "2 of 3" in capsys.readouterr().out


def test_a_damaged_record_is_named_and_left_out(
    tmp_path: Path, make_result: Callable[..., RunRecord], capsys: pytest.CaptureFixture[str]
) -> None:
    store = RecordStore(tmp_path)
    store.create()
    definition = BENCHMARKS["digits"].definition("images", "cpu")
    for seed in (0, 1):
        store.append(make_result(seed=seed, top1=50.0, definition=definition))
    store.path.write_bytes(store.path.read_bytes().replace(b'"seed": 1', b'"seed": 3'))
    assert main(["table", "--out", str(tmp_path), "--seeds", "2"]) == 0
    captured = capsys.readouterr()
    assert captured.err == f"warning: lines that cannot be read are left out: {store.path}: 2\n"
    assert "1 of 2" in captured.out


@pytest.mark.parametrize("spec", ["../x", "baseline+../x", "a\x00b", "\x1b[31mred", "x" * 600, "CON", "baseline+con"])
def test_a_spec_that_no_file_could_be_named_after_is_refused_and_nothing_made(
    spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = one_line_of(2, ["run", spec, "--out", str(tmp_path / "out")], capsys)
    assert line[:-1].isprintable()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--out", "--data", "--benchmark"])
@pytest.mark.parametrize("name", ["a\x00b.toml", "\x1b[31m.toml", "x" * 600 + ".toml", "CON.toml"])
def test_a_name_that_some_system_stumbles_over_is_one_clean_line_and_nothing_made(
    option: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = one_line_of(2, ["run", "baseline", option, name], capsys)
    assert option in line
    assert line[:-1].isprintable()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_over_budget_is_refused_before_any_training(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["run", "baseline+width=4", "--benchmark", str(tiny), "--out", str(out)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert any("1,226,442 parameters > 200,000" in line and "times its width would fit" in line for line in lines)
    assert lines[-1] == "ablate: over budget: nothing was trained"
    assert records(out) == []


@pytest.mark.slow
def test_hours_over_budget_are_refused_with_the_prediction(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_text(tiny.read_text().replace("max_hours = 0.5", "max_hours = 1e-9"))
    assert main(["run", "baseline", "--benchmark", str(tiny), "--out", str(tmp_path / "out")]) == 1
    assert "predicted on cpu" in capsys.readouterr().err


def image_folder(root: Path, train: tuple[str, ...] = ("cat", "dog"), test: tuple[str, ...] = ("cat", "dog")) -> Path:
    for split, classes in (("train", train), ("test", test)):
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for number in range(3):
                Image.new("RGB", (8, 8), (40 * number, 90, 10)).save(root / split / name / f"{number}.png")
    return root


def folder_benchmark(file: Path) -> list[str]:
    file.write_text('name = "pets"\nbaseline = "resnet8"\n[data]\nsource = "folder"\nnum_classes = 2\nimage_size = 8\n')
    return ["--benchmark", str(file)]


def one_line_of(code: int, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Runs a command that must end with `code`, no output, and one line on standard error; returns it."""
    assert main(arguments) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("ablate: ")
    return captured.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["baseline+sse"], "unknown part 'sse' at character 10 of 'baseline+sse': did you mean 'se'?"),
        (["resnet9+se"], "unknown base 'resnet9' at character 1 of 'resnet9+se': did you mean 'resnet8'?"),
        (["baseline++se"], "a part's name is missing at character 10"),
        ([""], "empty spec"),
        (["baseline+se+se"], "part 'se' at character 13"),
        (["baseline+drop_path=2"], "'2' is not a number from 0 to 0.9"),
        (["baseline+relu"], "'+relu' changes nothing"),
        (["timm/resnet18+se"], "'timm/resnet18' takes no parts"),
        (["baseline@dat=1/4"], "unknown setting 'dat' in '@dat=1/4': did you mean 'data'?"),
        (["baseline", "--seeds", "0"], "--seeds"),
        (["baseline", "--seeds", "1001"], "--seeds"),
        (["baseline" + "+se-se" * 51], "more than 100 steps"),
        (["baseline", "--benchmark", "no\npe.toml"], r"'no\npe.toml' has a control character"),
        (["baseline", "--data", "x" * 300], "has 300 bytes, over 255"),
        (["baseline", "--benchmark", "digit"], "unknown benchmark 'digit' (or a .toml file): did you mean 'digits'?"),
        (["baseline", "--benchmark", "nowhere.toml"], "cannot read benchmark nowhere.toml"),
        (["baseline", "--device", "gpu"], "unknown --device 'gpu'"),
        (["baseline", "--data", "nowhere"], "--data nowhere is not a folder"),
        (["baseline", "--bogus"], "--bogus"),
        (["baseline", "--runs-per-device", "0"], "--runs-per-device"),
        (["baseline", "--runs-per-device", "65"], "--runs-per-device"),
        (["baseline", "--runs-per-device", "x"], "--runs-per-device"),
        (["baseline", "--time-limit", "0"], "--time-limit 0 would end every run"),
        (["baseline", "--ray-gpus", "1"], "--ray-gpus and --ray-cpus need --executor ray"),
        (["baseline", "--ray-cpus", "2"], "--ray-gpus and --ray-cpus need --executor ray"),
        (["baseline", "--world-size", "64"], "--world-size 64"),
        ([], "PLAN"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in one_line_of(2, ["run", *arguments, "--out", str(tmp_path / "out")], capsys)


def test_missing_data_names_the_ways_to_get_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    shared = ["--out", str(tmp_path / "out"), "--data", str(tmp_path / "empty")]
    line = one_line_of(2, ["run", "baseline", "--benchmark", "cifar100", *shared], capsys)
    assert "--download" in line
    assert "train/<class>/" in line


@pytest.mark.parametrize(
    ("train", "test", "words"),
    [
        (("cat",), ("cat",), "at least 2 are needed"),
        (("cat", "dog"), ("cat", "fox"), "'dog' is only in train/"),
        (("cat", "dog", "fox"), ("cat", "dog", "fox"), "has 3 classes, but this benchmark has 2"),
    ],
)
def test_an_image_folder_of_the_wrong_shape_is_one_line(
    train: tuple[str, ...], test: tuple[str, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = image_folder(tmp_path / "images", train, test)
    arguments = ["run", "baseline", *folder_benchmark(tmp_path / "pets.toml"), "--data", str(data)]
    assert words in one_line_of(2, [*arguments, "--out", str(tmp_path / "out")], capsys)


def test_a_broken_image_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = image_folder(tmp_path / "images")
    (data / "train" / "dog" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\nnot a picture")
    arguments = ["run", "baseline", *folder_benchmark(tmp_path / "pets.toml"), "--data", str(data)]
    assert "dog/1.png" in one_line_of(2, [*arguments, "--out", str(tmp_path / "out")], capsys)


def test_a_batch_that_the_images_do_not_fill_is_refused_at_once(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_text(tiny.read_text().replace("batch_size = 50", "batch_size = 500"))
    assert main(["run", "baseline", "--benchmark", str(tiny), "--out", str(tmp_path / "out")]) == 2
    assert "200 training images do not fill one batch of 500" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(("out", "words"), [("x" * 300, "has 300 bytes, over 255"), ("records.jsonl", "cannot read")])
def test_a_table_from_what_is_no_folder_of_records_is_one_line(
    out: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "records.jsonl" / "records.jsonl").mkdir(parents=True)
    assert words in one_line_of(2, ["table", "--out", out], capsys)


def test_an_output_folder_that_cannot_be_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot write to --out" in one_line_of(
        2, ["run", "baseline", "--out", str(tmp_path / "file" / "out")], capsys
    )


def test_an_unknown_key_in_a_benchmark_file_names_the_valid_ones(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_text(tiny.read_text().replace("batch_size", "batchsize"))
    line = one_line_of(2, ["run", "baseline", "--benchmark", str(tiny), "--out", str(tmp_path / "out")], capsys)
    assert "unknown key 'batchsize' in [recipe]: did you mean 'batch_size'?" in line


def test_a_table_of_nothing_says_how_to_get_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "ablate run" in one_line_of(2, ["table", "--out", str(tmp_path)], capsys)


@pytest.mark.parametrize(
    ("what", "word"),
    [("parts", "cbam"), ("bases", "wrn28_8"), ("plans", "seresnet50d_s1"), ("benchmarks", "cifar100")],
)
def test_lists_name_what_there_is(what: str, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", what]) == 0
    assert word in capsys.readouterr().out
    assert main(["list", what, "--json"]) == 0
    assert word in {value for entry in json.loads(capsys.readouterr().out) for value in entry.values()}


def test_a_listed_plan_tells_its_spec_and_what_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "plans", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed == [{"plan": name, "spec": plan.spec, "what": plan.aim} for name, plan in PLANS.items()]


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert {"run", "table", "list"} <= set(capsys.readouterr().out.split())
