import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from arch.models import build
from arch.spec import parse
from benchmarks.cli.budget_check import main as budget_check
from benchmarks.definition.benchmark import Benchmark
from benchmarks.execution.progress import silent
from benchmarks.training.tensor_file import write_tensors
from search.report.export import export

SPEC, NAME = "resnet8+se+silu+width=0.5", "search_tiny_0123abcd"
Python = Callable[..., "subprocess.Popen[str]"]

LOADS = """
import importlib, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
module = importlib.import_module(sys.argv[2])
import timm, torch
from safetensors.torch import load_file, save_file
given = load_file(sys.argv[3])
fresh = timm.create_model(sys.argv[2])
fresh.load_state_dict({name: tensor for name, tensor in given.items() if name != "images"})
trained = timm.create_model("local-dir:" + sys.argv[1] + "/" + sys.argv[2] + "_timm", pretrained=True)
answers = {
    "fresh": fresh.eval()(given["images"]).detach(),
    "trained": trained.eval()(given["images"]).detach(),
}
save_file(answers, sys.argv[4])
print(module.SPEC, trained.pretrained_cfg["mean"], trained.pretrained_cfg["input_size"], fresh.num_classes)
"""


def trained_net() -> nn.Module:
    """With statistics of its own in every norm, as after a training."""
    torch.manual_seed(0)
    model = build(parse(SPEC).variant(), 10, 1)
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(16, 1, 8, 8))
    return model.eval()


def kept(model: nn.Module, path: Path) -> Path:
    """Its weights, as a run leaves them."""
    write_tensors(path, model.state_dict(), {"spec": SPEC})
    return path


def exported(benchmark: Benchmark, weights: Path, folder: Path, name: str = NAME) -> list[Path]:
    return export(silent, SPEC, name, f'{SPEC}: 99.33 ± 0.12 "top-1"', benchmark, weights, folder)


def test_a_new_process_gets_the_same_net_by_its_name_and_with_its_weights(
    tiny: Benchmark, python: Python, tmp_path: Path
) -> None:
    model, out = trained_net(), tmp_path / "out"
    files = exported(tiny, kept(model, tmp_path / "weights.safetensors"), out)
    of_timm = out / f"{NAME}_timm"
    assert files == [out / f"{NAME}.py", of_timm / "config.json", of_timm / "model.safetensors"]
    images = torch.randn(4, 1, 8, 8)
    save_file({**model.state_dict(), "images": images}, tmp_path / "given.safetensors")
    answers = tmp_path / "answers.safetensors"
    process = python(LOADS, out, NAME, tmp_path / "given.safetensors", answers)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert said == f"{SPEC} [0.5] (1, 8, 8) 10\n"
    expected = model(images).detach()
    for answer in load_file(answers).values():
        torch.testing.assert_close(answer, expected)
    assert len(load_file(answers)) == 2


def test_the_config_says_what_the_net_reads(tiny: Benchmark, tmp_path: Path) -> None:
    exported(tiny, kept(trained_net(), tmp_path / "weights.safetensors"), tmp_path)
    config = json.loads((tmp_path / f"{NAME}_timm" / "config.json").read_text())
    assert config["architecture"] == "cifar_net"
    assert config["num_classes"] == 10
    assert config["model_args"].items() >= {"spec": SPEC, "in_chans": 1}.items()
    assert config["pretrained_cfg"]["input_size"] == [1, 8, 8]
    assert (config["pretrained_cfg"]["mean"], config["pretrained_cfg"]["std"]) == ([0.5], [0.5])


def test_the_module_is_inside_the_budget_by_the_check_of_any_file(
    tiny: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = exported(tiny, kept(trained_net(), tmp_path / "weights.safetensors"), tmp_path)[0]
    monkeypatch.chdir(tmp_path)
    argv = [f"{module.name}:{NAME}", "--benchmark", "digits", "--device", "cpu", "--no-timing", "--json"]
    assert budget_check(argv) == 0
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["passed"]
    assert verdict["cost"]["params"] == sum(parameter.numel() for parameter in trained_net().parameters())


@pytest.mark.parametrize("name", ["not a name", "1st", "", "class", "a-b", "../up", "None"])
def test_what_no_function_can_be_called_is_refused(tiny: Benchmark, tmp_path: Path, name: str) -> None:
    weights = kept(trained_net(), tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="cannot be the name of a function"):
        exported(tiny, weights, tmp_path / "out", name)
    assert not (tmp_path / "out").exists()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("damage", ["missing", "cut", "another net's", "not kept by a run"])
def test_an_old_export_stays_whole_where_the_new_one_fails(tiny: Benchmark, tmp_path: Path, damage: str) -> None:
    out, weights = tmp_path / "out", kept(trained_net(), tmp_path / "weights.safetensors")
    exported(tiny, weights, out)
    before = contents(out)
    if damage == "missing":
        weights.unlink()
    elif damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "another net's":
        kept(build(parse("resnet8").variant(), 10, 1), weights)
    else:
        save_file(trained_net().state_dict(), weights)
    with pytest.raises((OSError, ValueError, RuntimeError)):
        exported(tiny, weights, out)
    assert contents(out) == before


def test_a_disk_that_fails_while_the_new_one_is_written_leaves_the_old_one_and_no_rest(
    tiny: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(model: nn.Module, folder: str, **kw: object) -> None:
        Path(folder).mkdir()
        (Path(folder) / "config.json").write_text("{")  # half of it
        raise OSError(28, "No space left on device")

    out, weights = tmp_path / "out", kept(trained_net(), tmp_path / "weights.safetensors")
    exported(tiny, weights, out)
    before = contents(out)
    monkeypatch.setattr("search.report.export.save_for_hf", full)
    with pytest.raises(OSError, match="No space left"):
        exported(tiny, weights, out)
    assert contents(out) == before


def test_the_same_export_again_leaves_the_same_files(tiny: Benchmark, tmp_path: Path) -> None:
    weights = kept(trained_net(), tmp_path / "weights.safetensors")
    exported(tiny, weights, tmp_path / "out")
    before = contents(tmp_path / "out")
    exported(tiny, weights, tmp_path / "out")
    assert contents(tmp_path / "out") == before
