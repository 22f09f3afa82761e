"""`ablate distill`, `ablate datasize` and `ablate finetune` up to where training begins."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from ablation.cli import main
from ablation.commands.options import RunOptions
from benchmarks.records.weights_file import digest_of

Planned = Callable[..., str]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A whole file whose name is no word of a plan."""
    file = tmp_path / "my weights (1), @home.safetensors"
    save_file({"weight": np.zeros(3, np.float32)}, file)
    return file


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Planned:
    """The plan that a command line would carry out."""

    def plan_of(command: str, *arguments: str) -> str:
        plans = []

        def carry_out(plan: str, run: RunOptions) -> int:
            assert run.out == tmp_path / "out"
            plans.append(plan)
            return 0

        monkeypatch.setattr(f"ablation.commands.{command}.run_plan", carry_out)
        assert main([command, *arguments, "--out", str(tmp_path / "out")]) == 0
        [plan] = plans
        return plan

    return plan_of


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one line of a command that is refused, with nothing made."""

    def run(*arguments: str) -> str:
        before = set(tmp_path.iterdir())
        assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
        captured = capsys.readouterr()
        assert (captured.out, captured.err.count("\n")) == ("", 1)
        assert captured.err.startswith("ablate: ")
        assert captured.err[:-1].isprintable()
        assert set(tmp_path.iterdir()) == before
        return captured.err

    return run


def test_several_words_may_follow_fractions_and_init(planned: Planned) -> None:
    words = ["--fractions", "1/16", "1/2", "1", "--init", "scratch", "imagenet"]
    expected = "datasize(1/16,1/2,1):timm/resnet18,timm/resnet18@init=hub"
    assert planned("datasize", "timm/resnet18", *words) == expected
    assert planned("datasize", *words, "timm/resnet18") == expected
    assert planned("datasize", "--fractions", "1/16,1/2,1", "timm/resnet18", "--init", "imagenet", "scratch") == (
        "datasize(1/16,1/2,1):timm/resnet18@init=hub,timm/resnet18"
    )


def test_one_word_may_name_several_nets(planned: Planned) -> None:
    words = ["timm/resnet18,timm/resnet34", "--fractions", "1", "--init", "imagenet"]
    assert planned("datasize", *words) == "datasize(1):timm/resnet18@init=hub,timm/resnet34@init=hub"


def test_several_options_are_as_good_as_several_words(planned: Planned) -> None:
    words = ["--fractions", "0.5", "--fractions", "1", "--equal", "updates"]
    assert planned("datasize", "resnet8", "resnet20", *words) == "datasize(0.5,1,updates):resnet8,resnet20"


def test_a_distillation_is_planned_with_what_is_not_the_default(planned: Planned) -> None:
    nets = ["--teacher", "resnet20", "--student", "resnet8"]
    assert planned("distill", *nets) == "distill:resnet20>resnet8"
    settings = ["--temperature", "2", "--alpha", "0.00001", "--growing", "--hard", "--smooth", "0.2", "--progressive"]
    assert planned("distill", *nets, *settings) == (
        "distill(T=2,alpha=0.00001,growing,hard,smooth=0.2,progressive):resnet20>resnet8"
    )


def test_a_fine_tuning_is_a_comparison(planned: Planned) -> None:
    assert planned("finetune", "timm/resnet18", "--input-size", "64", "--freeze", "layer1", "--freeze", "conv1") == (
        "compare:timm/resnet18/64,timm/resnet18/64@init=hub,timm/resnet18/64@init=hub@freeze=layer1:conv1"
    )


def test_a_file_of_weights_is_named_by_its_digest_and_kept(planned: Planned, weights: Path, tmp_path: Path) -> None:
    digest = digest_of(weights)
    assert planned("finetune", "resnet8", "--pretrained", str(weights)) == f"compare:resnet8,resnet8@init={digest}"
    kept = tmp_path / "out" / "initial" / f"{digest}.safetensors"
    assert kept.read_bytes() == weights.read_bytes()
    words = ["resnet8", "--fractions", "1", "--init", "imagenet", "--pretrained", str(weights)]
    assert planned("datasize", *words) == f"datasize(1):resnet8@init={digest}"


def test_weights_that_nothing_starts_from_are_not_looked_for(planned: Planned, tmp_path: Path) -> None:
    assert planned("datasize", "resnet8", "--fractions", "1", "--pretrained", "none") == "datasize(1):resnet8"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", [["datasize", "resnet8", "--fractions", "1"], ["finetune", "timm/resnet18"],
                                     ["distill", "--teacher", "resnet20", "--student", "resnet8"]])  # fmt: skip
def test_a_study_is_carried_out_as_any_plan_is(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[RunOptions] = []

    def carry_out(plan: str, run: RunOptions) -> int:
        seen.append(run)
        return 0

    monkeypatch.setattr(f"ablation.commands.{command[0]}.run_plan", carry_out)
    words = "--seeds 6 --runs-per-device 2 --world-size 2 --executor ray --ray-gpus 0.5 --paired"
    assert main([*command, *words.split()]) == 0
    assert seen == [RunOptions(seeds=6, runs_per_device=2, world_size=2, executor="ray", ray_gpus=0.5, paired=True)]


FROM_HUB = "'@init=hub' stands behind a model of timm's"
DISTILL = ["distill", "--teacher", "resnet20", "--student", "resnet8"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["datasize", "resnet8"], "--fractions"),
        (["datasize", "--fractions", "1"], "MODEL"),
        (["datasize", "--fractions", "1/2", "1"], "empty spec"),
        (["datasize", "resnet8", "--fractions", "2"], "'@data=2' is not a number above 0 up to 1"),
        (["datasize", "resnet8", "--fractions", "1/2", "2"], "'@data=2' is not a number above 0 up to 1"),
        (["datasize", "resnet8", "--fractions", "1/2", "x"], "unknown base 'x'"),
        (["datasize", "resnet8", "resnet21", "--fractions", "1"], "unknown base 'resnet21'"),
        (["datasize", "resnet8", "baseline", "--fractions", "1"], "a net stands twice"),
        (["datasize", "resnet8", "--fractions", "1", "--init", "imagnet"], "did you mean 'imagenet'?"),
        (["datasize", "resnet8", "--fractions", "1", "--init", "imagenet"], FROM_HUB),
        (["datasize", "resnet8", "--fractions", "1", "--equal", "steps"], "--equal"),
        (["datasize", "resnet8@data=1/2", "--fractions", "1"], "the parts of the images stand in the brackets"),
        (["distill", "--teacher", "resnet20"], "--student"),
        (["distill", "--teacher", "resnet21", "--student", "resnet8"], "unknown base 'resnet21'"),
        (["distill", "--teacher", "a>b", "--student", "resnet8"], "is not distill:TEACHER>STUDENT"),
        ([*DISTILL, "--temperature", "0"], "'@T=0' is not a number from 0.1 to 100"),
        ([*DISTILL, "--temperature", "nan"], "'@T=nan' is not a number from 0.1 to 100"),
        ([*DISTILL, "--temperature", "inf"], "'@T=inf' is not a number from 0.1 to 100"),
        ([*DISTILL, "--temperature", "1e300"], "is not a number from 0.1 to 100"),
        ([*DISTILL, "--alpha", "0"], "'@alpha=0' is not a number from 1e-06 to 1"),
        ([*DISTILL, "--alpha", "-1"], "'@alpha=-1' is not a number from 1e-06 to 1"),
        ([*DISTILL, "--smooth", "1"], "'smooth=1' is not a number from 0.001 to 0.999"),
        ([*DISTILL, "--seeds", "0"], "--seeds"),
        ([*DISTILL, "--time-limit", "0"], "--time-limit 0 would end every run"),
        ([*DISTILL, "--ray-cpus", "2"], "--ray-gpus and --ray-cpus need --executor ray"),
        ([*DISTILL, "--benchmark", "digit"], "did you mean 'digits'?"),
        (["finetune"], "MODEL"),
        (["finetune", "resnet8"], "'resnet8' has no published weights"),
        (["finetune", "resnet8", "--input-size", "64"], "a model of timm's that names no size"),
        (["finetune", "timm/resnet18", "--input-size", "8"], "--input-size"),
        (["finetune", "timm/resnet18@init=hub"], "the weights are named by --pretrained"),
        (["finetune", "resnet8", "--pretrained", "none.safetensors"], "there is no file none.safetensors"),
        (["finetune", "resnet8", "--pretrained", "a\nb"], "there is no file a?b"),
        (["finetune", "resnet8", "--pretrained", ""], "is a folder"),
        (["run", "compare:resnet8,resnet8@data=2"], "'@data=2' is not a number above 0 up to 1"),
        (["run", "compare:resnet8,resnet20", "--last"], "--last trains the last row of a plain path"),
        (["plan", "compare:resnet8,resnet8@init=none", "--no-timing"], "there is no file none"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], words: str, refused: Callable[..., str]) -> None:
    assert words in refused(*arguments)


def test_weights_that_a_plan_names_are_read_and_not_kept(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    weights.rename("w.safetensors")
    plan = "compare:resnet8,resnet8@init=w.safetensors"
    assert main(["plan", plan, "--no-timing", "--out", "out"]) == 0
    assert "1 change(s)" in capsys.readouterr().out
    assert not Path("out").exists()
