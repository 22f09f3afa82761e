import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from arch.models import build
from arch.plugins import load_plugins, unload_plugins
from arch.spec import parse
from benchmarks.cli.budget_check import main as budget_check
from benchmarks.definition.benchmark import Benchmark
from benchmarks.execution.progress import silent
from benchmarks.training.tensor_file import write_tensors
from search.report.export import export
from search.report.trained_model import TrainedModel

SPEC, NAME = "resnet8+se+silu+width=0.5", "search_tiny_0123abcd"

LOAD_EXPORT = """
import importlib, sys
sys.path.insert(0, sys.argv[1])
module = importlib.import_module(sys.argv[2])
import timm
from safetensors.torch import load_file, save_file
tensors = load_file(sys.argv[3])
images = tensors.pop("images")
by_name = timm.create_model(sys.argv[2])
by_name.load_state_dict(tensors)
pretrained = timm.create_model("local-dir:" + sys.argv[1] + "/" + sys.argv[2] + "_timm", pretrained=True)
outputs = {"by_name": by_name.eval()(images).detach(), "pretrained": pretrained.eval()(images).detach()}
save_file(outputs, sys.argv[4])
config = pretrained.pretrained_cfg
print(module.SPEC, config["mean"], config["input_size"], by_name.num_classes)
"""


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """Return a model whose norm layers have running statistics, as after training."""
    torch.manual_seed(0)
    model = build(parse(SPEC).variant(), 10, 1)
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(16, 1, 8, 8))
    return model.eval()


@pytest.fixture
def weights(model: nn.Module, tmp_path: Path) -> Path:
    """Return a file with the weights of the model, as a run writes it."""
    return write_weights(model, tmp_path / "weights.safetensors")


def write_weights(model: nn.Module, path: Path) -> Path:
    write_tensors(path, model.state_dict(), {"spec": SPEC})
    return path


def run_export(benchmark: Benchmark, weights: Path, folder: Path, name: str = NAME) -> list[Path]:
    description = f'{SPEC}: 99.33 ± 0.12% "top-1"'
    return export(silent, TrainedModel(SPEC, name, description, benchmark, weights), folder)


def file_contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.slow
def test_new_process_loads_the_model_by_name_and_with_weights(
    tiny: Benchmark,
    model: nn.Module,
    weights: Path,
    python: Callable[..., "subprocess.Popen[str]"],
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    files = run_export(tiny, weights, out)
    timm_folder = out / f"{NAME}_timm"
    assert files == [out / f"{NAME}.py", timm_folder / "config.json", timm_folder / "model.safetensors"]
    images = torch.randn(4, 1, 8, 8)
    save_file({**model.state_dict(), "images": images}, tmp_path / "inputs.safetensors")
    process = python(LOAD_EXPORT, out, NAME, tmp_path / "inputs.safetensors", tmp_path / "outputs.safetensors")
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert printed == f"{SPEC} [0.5] (1, 8, 8) 10\n"
    expected, outputs = model(images).detach(), load_file(tmp_path / "outputs.safetensors")
    assert outputs.keys() == {"by_name", "pretrained"}
    for output in outputs.values():
        torch.testing.assert_close(output, expected)


PLUGIN = """
from torch import nn
from arch.registry import network
import helpers.pooling

@network("small_net")
class SmallNet(nn.Module):
    def __init__(self, num_classes, in_chans=3):
        super().__init__()
        self.fc = nn.Linear(in_chans, num_classes)

    def forward(self, x):
        return self.fc(helpers.pooling.mean(x))

class Scale(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x):
        return self.norm(x)
"""


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["small_net", "resnet8+{folder}/nets.py:Scale"])
def test_export_contains_the_plugins_that_the_model_needs(
    spec: str, tiny: Benchmark, python: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    folder, out = tmp_path / "plugins", tmp_path / "out"
    (folder / "helpers").mkdir(parents=True)
    (folder / "nets.py").write_text(PLUGIN)
    (folder / "helpers" / "__init__.py").touch()
    (folder / "helpers" / "pooling.py").write_text("def mean(x):\n    return x.mean((2, 3))\n")
    spec = spec.format(folder=folder)
    try:
        load_plugins([folder / "nets.py"], spec)
        architecture = parse(spec).architecture
        model = build(architecture, 10, 1).eval()
        trained = TrainedModel(spec, NAME, "a model", tiny, write_weights(model, tmp_path / "weights.safetensors"))
        files = export(silent, trained, out)
    finally:
        unload_plugins()
    shutil.rmtree(folder)
    assert out / f"{NAME}_plugins" / "helpers" / "pooling.py" in files
    assert "nets.py (version" in (out / f"{NAME}.py").read_text()
    images = torch.randn(4, 1, 8, 8)
    save_file({**model.state_dict(), "images": images}, tmp_path / "inputs.safetensors")
    process = python(LOAD_EXPORT, out, NAME, tmp_path / "inputs.safetensors", tmp_path / "outputs.safetensors")
    process.communicate(timeout=120)
    assert process.returncode == 0
    outputs = load_file(tmp_path / "outputs.safetensors")
    torch.testing.assert_close(outputs["by_name"], model(images).detach())


def test_config_describes_model_and_preprocessing(tiny: Benchmark, weights: Path, tmp_path: Path) -> None:
    run_export(tiny, weights, tmp_path)
    config = json.loads((tmp_path / f"{NAME}_timm" / "config.json").read_text())
    assert config["architecture"] == "cifar_net"
    assert config["num_classes"] == 10
    assert config["model_args"].items() >= {"spec": SPEC, "in_chans": 1}.items()
    assert config["pretrained_cfg"]["input_size"] == [1, 8, 8]
    assert (config["pretrained_cfg"]["mean"], config["pretrained_cfg"]["std"]) == ([0.5], [0.5])


@pytest.mark.slow
def test_budget_check_of_the_exported_module(
    tiny: Benchmark,
    model: nn.Module,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    module = run_export(tiny, weights, tmp_path)[0]
    monkeypatch.chdir(tmp_path)
    argv = [f"{module.name}:{NAME}", "--benchmark", "digits", "--device", "cpu", "--no-timing", "--json"]
    assert budget_check(argv) == 0
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["passed"]
    assert verdict["cost"]["params"] == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", ["not a name", "1st", "", "class", "a-b", "../up", "None"])
def test_name_must_be_a_valid_function_name(tiny: Benchmark, weights: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="valid name of a Python function"):
        run_export(tiny, weights, tmp_path / "out", name)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["missing", "truncated", "of another model", "not written by a run"])
def test_earlier_export_stays_intact_if_the_weights_are_damaged(
    tiny: Benchmark, model: nn.Module, weights: Path, tmp_path: Path, damage: str
) -> None:
    out = tmp_path / "out"
    run_export(tiny, weights, out)
    before = file_contents(out)
    if damage == "missing":
        weights.unlink()
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "of another model":
        write_weights(build(parse("resnet8").variant(), 10, 1), weights)
    else:
        save_file(model.state_dict(), weights)
    with pytest.raises((OSError, ValueError, RuntimeError)):
        run_export(tiny, weights, out)
    assert file_contents(out) == before


def test_earlier_export_stays_intact_if_the_disk_is_full(
    tiny: Benchmark, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_halfway(model: nn.Module, folder: str, **kwargs: object) -> None:
        Path(folder).mkdir()
        (Path(folder) / "config.json").write_text("{")
        raise OSError(28, "No space left on device")

    out = tmp_path / "out"
    run_export(tiny, weights, out)
    before = file_contents(out)
    monkeypatch.setattr("search.report.export.save_for_hf", fail_halfway)
    with pytest.raises(OSError, match="No space left"):
        run_export(tiny, weights, out)
    assert file_contents(out) == before


def test_export_can_be_repeated(tiny: Benchmark, weights: Path, tmp_path: Path) -> None:
    run_export(tiny, weights, tmp_path / "out")
    before = file_contents(tmp_path / "out")
    run_export(tiny, weights, tmp_path / "out")
    assert file_contents(tmp_path / "out") == before
