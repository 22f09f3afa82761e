"""Test `ablate distill`, `ablate datasize` and `ablate finetune` up to the start of training."""

import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from ablation.cli import main
from ablation.commands.options import RunOptions
from ablation.plans.distill import DEFAULT_SMOOTHING
from ablation.plans.plan import Plan
from ablation.plans.pretrained import with_pretrained
from benchmarks.definition.benchmark import Benchmark
from benchmarks.definition.distillation_methods import NUMBER_SETTINGS, STANDARDIZED_TEMPERATURE
from benchmarks.records.paths import initial_weights_file
from benchmarks.records.store import RecordStore
from benchmarks.records.weights_file import digest_of

PlanOf = Callable[..., str]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Return a weights file whose name cannot be part of a plan."""
    file = tmp_path / "my weights (1), @home.safetensors"
    save_file({"weight": np.zeros(3, np.float32)}, file)
    return file


@pytest.fixture
def plan_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlanOf:
    """Return a function that returns the plan that a command line would run."""

    def plan_of(command: str, *arguments: str) -> str:
        plans = []

        def run_plan(plan: Plan, benchmark: Benchmark, options: RunOptions) -> int:
            assert benchmark.name == "digits"
            assert options.out == tmp_path / "out"
            plans.append(str(plan))
            return 0

        monkeypatch.setattr(f"ablation.commands.{command}.run_plan", run_plan)
        assert main([command, *arguments, "--out", str(tmp_path / "out")]) == 0
        [plan] = plans
        return plan

    return plan_of


@pytest.mark.parametrize(
    "words",
    [
        ["timm/resnet18", "--fractions", "1/16", "1/2", "1", "--init", "scratch", "imagenet"],
        ["--fractions", "1/16", "1/2", "1", "--init", "scratch", "imagenet", "timm/resnet18"],
        ["--fractions", "1/16,1/2,1", "timm/resnet18", "--init", "scratch", "--init", "imagenet"],
    ],
)
def test_fractions_and_init_accept_several_words(words: list[str], plan_of: PlanOf) -> None:
    assert plan_of("datasize", *words) == "datasize(1/16,1/2,1):timm/resnet18,timm/resnet18@init=hub"


def test_order_of_init_is_kept(plan_of: PlanOf) -> None:
    words = ["timm/resnet18", "--fractions", "1", "--init", "imagenet", "scratch"]
    assert plan_of("datasize", *words) == "datasize(1):timm/resnet18@init=hub,timm/resnet18"


def test_one_word_may_contain_several_models(plan_of: PlanOf) -> None:
    words = ["timm/resnet18,timm/resnet34", "--fractions", "1", "--init", "imagenet"]
    assert plan_of("datasize", *words) == "datasize(1):timm/resnet18@init=hub,timm/resnet34@init=hub"


def test_repeated_fractions_and_equal_updates(plan_of: PlanOf) -> None:
    words = ["--fractions", "0.5", "--fractions", "1", "--equal", "updates"]
    assert plan_of("datasize", "resnet8", "resnet20", *words) == "datasize(1/2,1,updates):resnet8,resnet20"


def test_drawn_subsets_and_carried_weights(plan_of: PlanOf) -> None:
    words = ["resnet8", "--fractions", "1/2", "1"]
    plans = {
        "--subsets fixed": "datasize(1/2,1):resnet8",
        "--subsets drawn": "datasize(1/2,1,drawn):resnet8",
        "--carried": "datasize(1/2,1,carried):resnet8",
        "--carried --subsets drawn --equal updates": "datasize(1/2,1,updates,drawn,carried):resnet8",
    }
    assert {options: plan_of("datasize", *words, *options.split()) for options in plans} == plans


def test_distillation_settings(plan_of: PlanOf) -> None:
    networks = ["--teacher", "resnet20", "--student", "resnet8"]
    assert plan_of("distill", *networks) == "distill:resnet20>resnet8"
    defaults = ["--temperature", "4", "--alpha", "0.9", "--smooth", "0.1"]
    assert plan_of("distill", *networks, *defaults) == "distill:resnet20>resnet8"
    settings = ["--temperature", "2", "--alpha", "0.00001", "--growing", "--smooth", "0.2", "--progressive"]
    assert plan_of("distill", *networks, *settings) == (
        "distill(T=2,alpha=0.00001,growing,smooth=0.2,progressive):resnet20>resnet8"
    )
    assert plan_of("distill", *networks, "--hard") == "distill(hard):resnet20>resnet8"
    assert plan_of("distill", *networks, "--no-controls") == "distill(no-controls):resnet20>resnet8"


def test_distillation_methods(plan_of: PlanOf) -> None:
    networks = ["--teacher", "resnet20", "--student", "resnet8"]
    plans = {
        "--method kd --temperature 4": "distill:resnet20>resnet8",
        "--method dkd": "distill(method=dkd):resnet20>resnet8",
        "--method dkd --alpha 0 --beta 2 --temperature 4": "distill(method=dkd,alpha=0,beta=2):resnet20>resnet8",
        "--method dkd --standardize --temperature 4": "distill(method=dkd,T=4,standardize):resnet20>resnet8",
        "--standardize --temperature 2": "distill(standardize):resnet20>resnet8",
        "--method at --beta 1000": "distill(method=at):resnet20>resnet8",
        "--method at --beta 500.5 --no-controls": "distill(method=at,beta=500.5,no-controls):resnet20>resnet8",
    }
    assert {words: plan_of("distill", *networks, *words.split()) for words in plans} == plans


def test_compare_methods(plan_of: PlanOf) -> None:
    networks = ["--teacher", "resnet20", "--student", "resnet8"]
    assert plan_of("distill", *networks, "--compare-methods") == "distill(compare-methods):resnet20>resnet8"


def test_settings_are_chosen_on_the_validation_split(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, str | None]] = []

    def run_plan(plan: Plan, benchmark: Benchmark, options: RunOptions, advise: object) -> int:
        calls.append((str(plan), options.split))
        return 0

    monkeypatch.setattr("ablation.commands.distill.run_plan", run_plan)
    plans = {
        "": "distill-grid(T=1:2:4:8,alpha=0.5:0.9):resnet20>resnet8",
        "--temperature 1,2,4 --alpha 0.5,0.9": "distill-grid(T=1:2:4,alpha=0.5:0.9):resnet20>resnet8",
        "--temperature 4 --temperature 1 --split val": "distill-grid(T=1:4,alpha=0.5:0.9):resnet20>resnet8",
        "--method dkd --beta 2,4": "distill-grid(method=dkd,T=4,alpha=1,beta=2:4):resnet20>resnet8",
        "--method at --growing": "distill-grid(method=at,beta=100:300:1000:3000,growing):resnet20>resnet8",
        "--hard": "distill-grid(alpha=0.5:0.9,hard):resnet20>resnet8",
    }
    for words in plans:
        assert main([*DISTILL, "--choose", *words.split()]) == 0
    assert calls == [(plan, "val") for plan in plans.values()]


@pytest.mark.slow
def test_the_best_setting_is_printed_with_the_command_of_its_study(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--benchmark", str(tiny), "--seeds", "1", "--device", "cpu", "--runs-per-device", "1"]
    options += ["--out", str(tmp_path / "my out")]
    networks = ["--teacher", "resnet8+se", "--student", "resnet8"]
    arguments = [*networks, "--choose", "--temperature", "1,4", "--alpha", "0.5", "--growing", *options]
    assert main(["distill", *arguments]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if "ablate distill" in line]
    words = shlex.split(line.partition(": ")[2])
    assert words[:7] == ["ablate", "distill", *networks, "--growing"]
    assert words[-4] == "--temperature"
    assert words[-3] in ("1", "4")
    assert words[-2:] == ["--alpha", "0.5"]
    assert sorted(words[7:-4]) == sorted(options)
    records = RecordStore(tmp_path / "my out").records()
    assert len(records) == 4  # the student, the teacher, and two settings
    assert {record.definition["split"] for record in records} == {"val"}
    plan = "distill-grid(T=1:4,alpha=0.5,growing):resnet8+se>resnet8"
    assert main(["table", plan, "--split", "val", "--out", str(tmp_path / "my out")]) == 0
    assert "Best setting: T=" in capsys.readouterr().out


def test_help_states_the_defaults_of_the_distillation_loss(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["distill", "--help"]) == 0
    help_text = "".join(capsys.readouterr().out.split())
    assert f"[default:{DEFAULT_SMOOTHING:g}]" in help_text
    kd, dkd, at = NUMBER_SETTINGS["kd"], NUMBER_SETTINGS["dkd"], NUMBER_SETTINGS["at"]
    temperatures = kd["T"].default, STANDARDIZED_TEMPERATURE
    assert "[default:{:g};with--standardize:{:g}]".format(*temperatures) in help_text
    assert f"[default:kd{kd['alpha'].default:g},dkd{dkd['alpha'].default:g}]" in help_text
    assert f"[default:dkd{dkd['beta'].default:g},at{at['beta'].default:g}]" in help_text


def test_finetuning_is_a_comparison(plan_of: PlanOf) -> None:
    assert plan_of("finetune", "timm/resnet18", "--input-size", "64", "--freeze", "layer1", "--freeze", "conv1") == (
        "compare:timm/resnet18/64,timm/resnet18/64@init=hub,timm/resnet18/64@init=hub@freeze=conv1:layer1"
    )


def test_weights_files_may_have_any_name(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_plan(plan: Plan, benchmark: Benchmark, options: RunOptions) -> int:
        plans.append(str(with_pretrained(plan, options.out)))
        return 0

    plans: list[str] = []
    for command in ("finetune", "datasize"):
        monkeypatch.setattr(f"ablation.commands.{command}.run_plan", run_plan)
    options = ["--pretrained", str(weights), "--out", str(tmp_path / "out")]
    assert main(["finetune", "resnet8", *options]) == 0
    assert main(["datasize", "resnet8", "--fractions", "1", "--init", "imagenet", *options]) == 0
    digest = digest_of(weights)
    assert plans == [f"compare:resnet8,resnet8@init={digest}", f"datasize(1):resnet8@init={digest}"]
    assert initial_weights_file(tmp_path / "out", digest).read_bytes() == weights.read_bytes()


def test_weights_of_an_earlier_run_teach(plan_of: PlanOf, tmp_path: Path) -> None:
    file = tmp_path / "teacher.safetensors"
    save_file({"weight": np.zeros(3, np.float32)}, file, {"header": '{"spec": "resnet20+se@epochs=2"}'})
    assert plan_of("distill", "--teacher", str(file), "--student", "resnet8") == (
        f"distill:resnet20+se@epochs=0@init={file}>resnet8"
    )


def test_unused_weights_are_not_read(plan_of: PlanOf, tmp_path: Path) -> None:
    assert plan_of("datasize", "resnet8", "--fractions", "1", "--pretrained", "none") == "datasize(1):resnet8"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", [["datasize", "resnet8", "--fractions", "1"], ["finetune", "timm/resnet18"],
                                     ["distill", "--teacher", "resnet20", "--student", "resnet8"]])  # fmt: skip
def test_studies_have_the_options_of_run(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, RunOptions]] = []

    def run_plan(plan: Plan, benchmark: Benchmark, options: RunOptions) -> int:
        calls.append((benchmark.recipe.world_size, options))
        return 0

    monkeypatch.setattr(f"ablation.commands.{command[0]}.run_plan", run_plan)
    words = "--seeds 6 --runs-per-device 2 --world-size 2 --executor ray --ray-gpus 0.5 --paired"
    assert main([*command, *words.split()]) == 0
    options = RunOptions(
        seeds=6, runs_per_device=2, world_size=2, executor="ray", ray_gpus=0.5, paired=True, plugins=[], track=[]
    )
    assert calls == [(2, options)]


DISTILL = ["distill", "--teacher", "resnet20", "--student", "resnet8"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["datasize", "resnet8"], "--fractions"),
        (["datasize", "--fractions", "1"], "MODEL"),
        (["datasize", "--fractions", "1/2", "1"], "at least one fraction and one config"),
        (["datasize", "resnet8", "--fractions", ","], "at least one fraction and one config"),
        (["datasize", "resnet8", "--fractions", "2"], "'@data=2'"),
        (["datasize", "resnet8", "--fractions", "1/2", "2"], "'@data=2'"),
        (["datasize", "resnet8", "--fractions", "1/2", "1e-9"], "'@data=1e-9'"),
        (["datasize", "resnet8", "--fractions", "1/2", ".5"], "'@data=.5'"),
        (["datasize", "resnet8", "--fractions", "1/2", "x"], "unknown base 'x'"),
        (["datasize", "resnet8", "resnet21", "--fractions", "1"], "unknown base 'resnet21'"),
        (["datasize", "resnet8", "baseline", "--fractions", "1"], "two configs"),
        (["datasize", "resnet8", "--fractions", "1", "--init", "imagnet"], "did you mean 'imagenet'?"),
        (["datasize", "resnet8", "--fractions", "1", "--init", "imagenet"], "'@init=hub' needs a timm model"),
        (["datasize", "resnet8", "--fractions", "1", "--equal", "steps"], "--equal"),
        (["datasize", "resnet8@data=1/2", "--fractions", "1"], "remove @data"),
        (["datasize", "resnet8", "--fractions", "1", "--carried"], "at least two fractions"),
        (["datasize", "resnet8", "--fractions", "1", "--subsets", "random"], "--subsets"),
        (["distill", "--student", "resnet8"], "--teacher"),
        (["distill", "--teacher", "resnet20"], "--student"),
        (["distill", "--teacher", "resnet21", "--student", "resnet8"], "unknown base 'resnet21'"),
        (["distill", "--teacher", "a>b", "--student", "resnet8"], "unknown base 'a'"),
        ([*DISTILL, "--temperature", "0"], "'@T=0': T must be from 0.1 to 100"),
        ([*DISTILL, "--temperature", "nan"], "'@T=nan': T must be from 0.1 to 100"),
        ([*DISTILL, "--temperature", "inf"], "'@T=inf': T must be from 0.1 to 100"),
        ([*DISTILL, "--temperature", "1e300"], "must be from 0.1 to 100"),
        ([*DISTILL, "--temperature", "2", "--hard"], "'@hard'"),
        ([*DISTILL, "--alpha", "0"], "'@alpha=0': alpha must be from 1e-06 to 1"),
        ([*DISTILL, "--alpha", "-1"], "'@alpha=-1': alpha must be from 1e-06 to 1"),
        ([*DISTILL, "--method", "fitnet"], "--method"),
        ([*DISTILL, "--beta", "8"], "'@beta' has no effect with '@method=kd'"),
        ([*DISTILL, "--method", "at", "--alpha", "0.5"], "'@alpha' has no effect with '@method=at'"),
        ([*DISTILL, "--method", "at", "--standardize"], "'@standardize'"),
        ([*DISTILL, "--method", "dkd", "--hard"], "'@hard'"),
        ([*DISTILL, "--method", "dkd", "--beta", "1001"], "'@beta=1001': beta must be from 0 to 1000"),
        ([*DISTILL, "--temperature", "1,2"], "'1,2' has 2 values: give one, or add --choose"),
        ([*DISTILL, "--temperature", "1", "--temperature", "2"], "add --choose"),
        ([*DISTILL, "--temperature", "x"], "--temperature 'x' is not a number"),
        ([*DISTILL, "--choose", "--alpha", "0.5,"], "--alpha '0.5,' is not a number"),
        ([*DISTILL, "--alpha", "0.9999999"], "--alpha '0.9999999' must have at most 6 decimals"),
        ([*DISTILL, "--choose", "--split", "test"], "--split test"),
        ([*DISTILL, "--choose", "--until-decided"], "--until-decided"),
        ([*DISTILL, "--choose", "--smooth", "0.2"], "--smooth has no effect with --choose"),
        ([*DISTILL, "--choose", "--smooth", "0"], "--smooth has no effect with --choose"),
        ([*DISTILL, "--choose", "--no-controls"], "--no-controls has no effect with --choose"),
        ([*DISTILL, "--choose", "--compare-methods"], "--compare-methods has no effect with --choose"),
        ([*DISTILL, "--choose", "--temperature", "2", "--alpha", "0.5"], "one setting, T=2, alpha=0.5"),
        ([*DISTILL, "--choose", "--temperature", "0,2"], "'@T=0': T must be from 0.1 to 100"),
        ([*DISTILL, "--smooth", "1"], "'smooth=1': smooth must be from 0.001 to 0.999"),
        ([*DISTILL, "--seeds", "0"], "--seeds"),
        ([*DISTILL, "--time-limit", "0"], "--time-limit 0"),
        ([*DISTILL, "--ray-cpus", "2"], "--executor ray"),
        ([*DISTILL, "--benchmark", "digit"], "did you mean 'digits'?"),
        (["finetune"], "MODEL"),
        (["finetune", "resnet8"], "'resnet8' has no published weights"),
        (["finetune", "resnet8", "--input-size", "64"], "a timm model without a size"),
        (["finetune", "timm/resnet18", "--input-size", "8"], "--input-size"),
        (["finetune", "timm/resnet18@init=hub"], "already names initial weights"),
        (["finetune", "resnet8", "--pretrained", "none.safetensors"], "there is no file none.safetensors"),
        (["finetune", "resnet8", "--pretrained", "a\nb"], "there is no file a?b"),
        (["run", "compare:resnet8,resnet8@data=2"], "'@data=2'"),
        (["run", "compare:resnet8,resnet20", "--last"], "--last"),
        (["run", "baseline+se~eca", "--last"], "--last"),
        (["run", "baseline+se", "--control", "params", "--last"], "--last"),
        (["power", "compare:resnet8,resnet8@init=none", "--no-timing"], "there is no file none"),
    ],
)
def test_invalid_input_is_rejected_in_one_line(
    arguments: list[str], message: str, error_line: Callable[..., str], tmp_path: Path
) -> None:
    assert message in error_line(*arguments, "--out", str(tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_power_reads_weights_without_keeping_them(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    weights.rename("w.safetensors")
    plan = "compare:resnet8,resnet8@init=w.safetensors"
    assert main(["power", plan, "--no-timing", "--out", "out"]) == 0
    assert "1 change" in capsys.readouterr().out
    assert not Path("out").exists()
