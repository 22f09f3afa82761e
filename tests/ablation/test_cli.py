"""`ablate` from the command line to the files it writes, on real digits."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from PIL import Image

from ablation.cli import main
from arch.plans import PLANS
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.records.store import FailedRun, RecordStore, RunRecord

COMMAND = [sys.executable, "-c", "from ablation.cli import main; raise SystemExit(main())"]
ROOT = Path(__file__).parent.parent.parent


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]


def numbers(record: dict[str, Any]) -> dict[str, Any]:
    """Return what two runs with the same seed must agree in: everything except times."""
    curve = [{name: value for name, value in line.items() if "seconds" not in name} for line in record["curve"]]
    kept = ("spec", "key", "seed", "benchmark_id", "params", "macs", "images_seen", "top1", "top5", "per_class")
    return {**{name: record[name] for name in kept}, "curve": curve}


@pytest.mark.slow
def test_run_writes_records_table_and_plot_and_does_not_train_again(
    trained: CompletedProcess[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path(trained.args[-1])
    for cell in ("baseline (resnet8)", "+se", " ± "):
        assert cell in trained.stdout
    assert "4 of 4 runs" in trained.stderr
    written = records(out)
    assert [(record["spec"], record["seed"]) for record in written] == [
        (spec, seed) for seed in (0, 1) for spec in ("resnet8", "resnet8+se")
    ]
    assert all(len(record["curve"]) == 3 and record["top1"] == record["curve"][-1]["top1"] for record in written)
    assert len({record["top1"] for record in written}) > 1
    assert len(list((out / "weights").iterdir())) == 4
    assert list((out / "checkpoints").iterdir()) == []
    assert {file.suffix for file in out.glob("tiny_baseline+se.*")} == {".md", ".csv", ".png"}
    assert main(trained.args) == 0
    second = capsys.readouterr()
    assert (second.out, second.err) == (trained.stdout, "")
    assert records(out) == written


@pytest.mark.slow
def test_only_new_seeds_are_trained_even_if_the_plan_is_spelled_differently(
    trained: CompletedProcess[str], trained_copy: Path
) -> None:
    options = trained.args[4:-1]
    assert main(["run", "resnet8+se=16-se", "--seeds", "3", *options, str(trained_copy)]) == 0
    specs = [(record["spec"], record["seed"]) for record in records(trained_copy)[4:]]
    assert specs == [("resnet8", 2), ("resnet8+se", 2)]


@pytest.mark.slow
def test_interrupted_run_resumes_to_identical_numbers(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_text(tiny.read_text().replace("epochs = 3", "epochs = 40").replace("class = 20", "class = 10"))
    whole, interrupted = tmp_path / "whole", tmp_path / "interrupted"
    options = ["--benchmark", str(tiny), "--seeds", "1", "--device", "cpu", "--runs-per-device", "1", "--last"]
    arguments = ["run", "baseline+drop_path=0.2", *options, "--out"]
    assert main([*arguments, str(whole)]) == 0

    moment = time.time()
    process = subprocess.Popen([*COMMAND, *arguments, str(interrupted)], cwd=ROOT, stderr=subprocess.DEVNULL)
    wait_for_checkpoint(interrupted, moment, lambda: process.poll() is not None)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert (interrupted / ".holder.json").exists()
    capsys.readouterr()
    for number, code in ((signal.SIGTERM, 75), (signal.SIGINT, 130)):
        assert main_with_signal([*arguments, str(interrupted)], number, interrupted) == code
        assert capsys.readouterr().err.splitlines()[-1].startswith("ablate: stopped; ")
        assert len(list(interrupted.glob("checkpoints/*/*.safetensors"))) > 0
        assert not (interrupted / ".holder.json").exists()
    assert records(interrupted) == []

    assert main([*arguments, str(interrupted)]) == 0
    assert [numbers(record) for record in records(interrupted)] == [numbers(record) for record in records(whole)]


def main_with_signal(arguments: list[str], number: signal.Signals, out: Path) -> int:
    """Run a command that receives a signal after its first checkpoint, and return its exit code."""
    ended = threading.Event()

    def send(moment: float) -> None:
        if wait_for_checkpoint(out, moment, ended.is_set):
            os.kill(os.getpid(), number)

    sender = threading.Thread(target=send, args=(time.time(),))
    sender.start()
    try:
        return main(arguments)
    finally:
        ended.set()
        sender.join()


def wait_for_checkpoint(out: Path, moment: float, has_ended: Callable[[], bool]) -> bool:
    """Wait until there is a checkpoint that is newer than `moment`. Return False if the command ends before."""
    while not has_ended():
        if any(file.suffix == ".safetensors" and file.stat().st_mtime > moment for file in out.glob("checkpoints/*/*")):
            return True
        time.sleep(0.01)
    return False


@pytest.mark.slow
def test_json_is_the_only_output(trained: CompletedProcess[str], capsys: pytest.CaptureFixture[str]) -> None:
    out = Path(trained.args[-1])
    assert main(["run", "baseline", "--seeds", "1", *trained.args[4:], "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert [row["step"] for row in content["rows"]] == ["baseline (resnet8)"]
    assert content["rows"][0]["top1_std"] is None
    assert content["failures"] == []
    assert all(Path(file).exists() for file in content["files"])
    assert content["benchmark_id"] == records(out)[0]["benchmark_id"]
    assert main(["table", "baseline", "--seeds", "1", "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == content["rows"]


@pytest.mark.slow
def test_table_does_not_need_the_benchmark_file(
    trained: CompletedProcess[str], trained_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    definitions = {record["benchmark_id"] for record in records(trained_copy)}
    assert len(definitions) == 1
    benchmark = Path(trained.args[5])
    hidden = benchmark.rename(benchmark.with_suffix(".hidden"))
    try:
        assert main(["table", "--out", str(trained_copy), "--seeds", "2"]) == 0
        assert capsys.readouterr().out == trained.stdout.partition("written: ")[0]
        unrecorded = ["table", "baseline+width=3-width+eca", "--benchmark", "digits", "--out", str(trained_copy)]
        assert "digits" in error_line(2, unrecorded, capsys)
        assert "resnet20" in error_line(2, ["table", "resnet20", "--out", str(trained_copy)], capsys)
    finally:
        hidden.rename(benchmark)


@pytest.mark.slow
def test_caption_reports_runs_that_shared_a_device(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--benchmark", str(tiny), "--out", str(tmp_path / "out"), "--json"]
    assert main(["run", "baseline", "--seeds", "2", "--runs-per-device", "2", *options]) == 0
    captured = capsys.readouterr()
    assert "2 trainings share the device" in captured.err
    content = json.loads(captured.out)
    assert re.search(r"\b2 (runs|trainings)\b", content["caption"])
    assert content["rows"][0]["n"] == 2
    assert {record["runs_per_device"] for record in records(tmp_path / "out")} == {2}


@pytest.mark.slow
def test_last_row_alone(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--benchmark", str(tiny), "--runs-per-device", "1", "--out", str(tmp_path / "out"), "--json"]
    assert main(["run", "baseline+se+drop_path", "--last", "--seeds", "1", *options]) == 0
    content = json.loads(capsys.readouterr().out)
    [record] = records(tmp_path / "out")
    assert (record["spec"], record["plan"]) == ("resnet8+se+drop_path", "baseline+se+drop_path")
    assert [row["step"] for row in content["rows"]] == ["+drop_path"]


@pytest.mark.slow
def test_failed_run_is_reported_and_does_not_stop_the_others(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_text(tiny.read_text().replace("lr = 0.05", "lr = 1e30"))
    options = ["--benchmark", str(tiny), "--seeds", "1", "--runs-per-device", "1", "--out", str(tmp_path / "out")]
    assert main(["run", "baseline+se", *options]) == 3
    printed = capsys.readouterr().out
    assert "baseline (resnet8) seed 0 failed: TrainingFailed" in printed
    assert "+se seed 0 failed: TrainingFailed" in printed
    assert printed.count("0 of 1 (1 failed)") == 2
    assert "no result" not in printed
    assert "+se seed 0 failed: TrainingFailed" in (tmp_path / "out" / "tiny_baseline+se.md").read_text()


@pytest.mark.slow
def test_failure_is_in_the_table_until_the_run_succeeds(
    trained: CompletedProcess[str], trained_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, options = RecordStore(trained_copy), [*trained.args[4:-1], str(trained_copy)]
    done = store.records()[0]
    store.append(FailedRun(done.spec, done.key, 2, done.benchmark_id, "baseline", "the process was killed", "", "2026"))
    store.append(FailedRun(done.spec, done.key, 3, "another", "baseline", "of another benchmark", "", "2026"))
    table = ["table", "baseline", "--out", str(trained_copy), "--seeds"]
    assert main([*table, "3"]) == 0
    printed = capsys.readouterr().out
    assert "2 of 3 (1 failed)" in printed
    assert "baseline (resnet8) seed 2 failed: the process was killed\n" in printed
    assert "another" not in printed
    assert main([*table, "3", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["failures"] == [{"step": "baseline (resnet8)", "seed": 2, "reason": "the process was killed"}]
    assert (content["rows"][0]["n"], content["rows"][0]["failed"], content["rows"][0]["seeds"]) == (2, 1, 3)
    assert main(["run", "baseline", "--seeds", "3", *options]) == 0
    assert "failed" not in capsys.readouterr().out
    assert [record["seed"] for record in records(trained_copy) if record["spec"] == "resnet8"] == [0, 1, 2]
    assert main([*table, "4"]) == 0
    assert "3 of 4" in capsys.readouterr().out


def test_damaged_record_is_reported_and_ignored(
    tmp_path: Path, make_record: Callable[..., RunRecord], capsys: pytest.CaptureFixture[str]
) -> None:
    store = RecordStore(tmp_path)
    store.create()
    definition = BENCHMARKS["digits"].definition("images", "cpu")
    for seed in (0, 1):
        store.append(make_record(seed=seed, top1=50.0, definition=definition))
    store.path.write_bytes(store.path.read_bytes().replace(b'"seed": 1', b'"seed": 3'))
    assert main(["table", "--out", str(tmp_path), "--seeds", "2"]) == 0
    captured = capsys.readouterr()
    [warning] = captured.err.splitlines()
    assert warning.startswith("warning: ")
    assert str(store.path) in warning
    assert warning.endswith(" 2")
    assert "1 of 2" in captured.out


@pytest.mark.parametrize("spec", ["../x", "baseline+../x", "a\x00b", "\x1b[31mred", "x" * 600, "CON", "baseline+con"])
def test_spec_that_cannot_be_a_file_name_is_rejected(
    spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = error_line(2, ["run", spec, "--out", str(tmp_path / "out")], capsys)
    assert line[:-1].isprintable()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--out", "--data", "--benchmark"])
@pytest.mark.parametrize("name", ["a\x00b.toml", "\x1b[31m.toml", "x" * 600 + ".toml", "CON.toml"])
def test_path_that_some_system_cannot_handle_is_rejected(
    option: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = error_line(2, ["run", "baseline", option, name], capsys)
    assert option in line
    assert line[:-1].isprintable()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_plan_over_budget_is_not_trained(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["run", "baseline+width=4", "--benchmark", str(tiny), "--out", str(out)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert any("1,226,442 parameters > 200,000" in line and "times its width would fit" in line for line in lines)
    assert lines[-1] == "ablate: over budget: nothing was trained"
    assert records(out) == []


@pytest.mark.slow
def test_plan_with_too_many_predicted_hours_is_not_trained(
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


def error_line(code: int, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must end with `code` and print only one line, on standard error; return the line."""
    assert main(arguments) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("ablate: ")
    return captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["baseline+sse"], "unknown part 'sse' at character 10 of 'baseline+sse': did you mean 'se'?"),
        (["resnet9+se"], "unknown base 'resnet9' at character 1 of 'resnet9+se': did you mean 'resnet8'?"),
        (["baseline++se"], "at character 10"),
        ([""], "empty spec"),
        (["baseline+se+se"], "'se' at character 13"),
        (["baseline+drop_path=2"], "'2' is not a number from 0 to 0.9"),
        (["baseline+relu"], "'+relu' changes nothing"),
        (["timm/resnet18+se"], "'timm/resnet18'"),
        (["baseline@dat=1/4"], "'dat' in '@dat=1/4': did you mean 'data'?"),
        (["baseline", "--seeds", "0"], "--seeds"),
        (["baseline", "--seeds", "1001"], "--seeds"),
        (["baseline" + "+se-se" * 51], "more than 100 steps"),
        (["baseline", "--benchmark", "no\npe.toml"], r"'no\npe.toml'"),
        (["baseline", "--data", "x" * 300], "300 bytes"),
        (["baseline", "--benchmark", "digit"], "unknown benchmark 'digit' (or a .toml file): did you mean 'digits'?"),
        (["baseline", "--benchmark", "nowhere.toml"], "nowhere.toml"),
        (["baseline", "--device", "gpu"], "unknown --device 'gpu'"),
        (["baseline", "--data", "nowhere"], "--data nowhere"),
        (["baseline", "--bogus"], "--bogus"),
        (["baseline", "--runs-per-device", "0"], "--runs-per-device"),
        (["baseline", "--runs-per-device", "65"], "--runs-per-device"),
        (["baseline", "--runs-per-device", "x"], "--runs-per-device"),
        (["baseline", "--time-limit", "0"], "--time-limit 0"),
        (["baseline", "--ray-gpus", "1"], "--ray-gpus and --ray-cpus need --executor ray"),
        (["baseline", "--ray-cpus", "2"], "--ray-gpus and --ray-cpus need --executor ray"),
        (["baseline", "--world-size", "64"], "--world-size 64"),
        ([], "PLAN"),
    ],
)
def test_invalid_input_is_rejected_in_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in error_line(2, ["run", *arguments, "--out", str(tmp_path / "out")], capsys)


def test_missing_data_error_says_how_to_get_the_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    shared = ["--out", str(tmp_path / "out"), "--data", str(tmp_path / "empty")]
    line = error_line(2, ["run", "baseline", "--benchmark", "cifar100", *shared], capsys)
    assert "--download" in line
    assert "train/<class>/" in line


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (("cat",), ("cat",), "at least 2 are needed"),
        (("cat", "dog"), ("cat", "fox"), "'dog' is only in train/"),
        (("cat", "dog", "fox"), ("cat", "dog", "fox"), "has 3 classes, but this benchmark has 2"),
    ],
)
def test_unsuitable_image_folder_is_rejected_in_one_line(
    train: tuple[str, ...], test: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = image_folder(tmp_path / "images", train, test)
    arguments = ["run", "baseline", *folder_benchmark(tmp_path / "pets.toml"), "--data", str(data)]
    assert message in error_line(2, [*arguments, "--out", str(tmp_path / "out")], capsys)


def test_damaged_image_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = image_folder(tmp_path / "images")
    (data / "train" / "dog" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\nnot a picture")
    arguments = ["run", "baseline", *folder_benchmark(tmp_path / "pets.toml"), "--data", str(data)]
    assert "dog/1.png" in error_line(2, [*arguments, "--out", str(tmp_path / "out")], capsys)


def test_too_few_images_for_a_batch_are_rejected(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_text(tiny.read_text().replace("batch_size = 50", "batch_size = 500"))
    assert main(["run", "baseline", "--benchmark", str(tiny), "--out", str(tmp_path / "out")]) == 2
    assert "200 training images do not fill one batch of 500" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(("out", "message"), [("x" * 300, "300 bytes"), ("records.jsonl", "cannot read")])
def test_table_of_an_unusable_folder_is_rejected_in_one_line(
    out: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "records.jsonl" / "records.jsonl").mkdir(parents=True)
    assert message in error_line(2, ["table", "--out", out], capsys)


def test_unwritable_output_folder_is_rejected_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot write to --out" in error_line(
        2, ["run", "baseline", "--out", str(tmp_path / "file" / "out")], capsys
    )


def test_unknown_key_in_a_benchmark_file_is_reported_with_a_suggestion(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_text(tiny.read_text().replace("batch_size", "batchsize"))
    line = error_line(2, ["run", "baseline", "--benchmark", str(tiny), "--out", str(tmp_path / "out")], capsys)
    assert "unknown key 'batchsize' in [recipe]: did you mean 'batch_size'?" in line


def test_table_without_records_says_how_to_get_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "ablate run" in error_line(2, ["table", "--out", str(tmp_path)], capsys)


@pytest.mark.parametrize(
    ("what", "word"),
    [("parts", "cbam"), ("bases", "wrn28_8"), ("plans", "seresnet50d_s1"), ("benchmarks", "cifar100")],
)
def test_list_contains_the_registered_names(what: str, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", what]) == 0
    assert word in capsys.readouterr().out
    assert main(["list", what, "--json"]) == 0
    assert word in {value for entry in json.loads(capsys.readouterr().out) for value in entry.values()}


def test_listed_plans_have_a_spec_and_a_description(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "plans", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed == [{"plan": name, "spec": plan.spec, "description": plan.aim} for name, plan in PLANS.items()]


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert {"run", "table", "list"} <= set(capsys.readouterr().out.split())
