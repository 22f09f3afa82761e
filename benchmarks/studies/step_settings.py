"""Time training steps under different settings of torch, to see what limits their speed on this device.

    python -m benchmarks.studies.step_settings resnet50 [--out FILE.jsonl] [--device cuda] [--batch-size 256]

Each setting is printed as one line of JSON as soon as it is known. With --out, the lines are also appended to a file,
and settings that the file already contains for this device and batch size are skipped. torch reads
TORCH_CUDNN_USE_HEURISTIC_MODE_B=1 when it starts, so this setting needs a call of its own, with --only eager.
"""

import argparse
import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

import benchmarks.execution.preload  # noqa: F401  # suppresses warnings of torch.jit
from arch.models import build
from arch.spec import parse
from benchmarks.budget.cost import count_on_meta
from benchmarks.budget.memory import PeakMemory
from benchmarks.definition.recipe import Recipe
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.execution.device import device_name, use_device
from benchmarks.execution.environment import restart_with_worker_environment
from benchmarks.studies.gpu_session.figures import read_lines
from benchmarks.training.compile_mode import COMPILED_MODES, CompileMode, reset_compiler, uses_graph
from benchmarks.training.determinism import make_deterministic
from benchmarks.training.step import DeviceImages, StepOptions, TrainingStep, random_images
from benchmarks.training.trainer import train_epoch

HEURISTIC_MODE_B = "TORCH_CUDNN_USE_HEURISTIC_MODE_B"
INPUT_SHAPE, NUM_CLASSES = (3, 32, 32), 100
NUM_WINDOWS = 5  # the median is used
MIN_WINDOW_SECONDS = 0.4
MAX_STEPS_PER_WINDOW = 100  # limited because the images of a window are kept on the device
NUM_WARM_UP_STEPS = 4  # CUDA graphs are recorded in one of them


@dataclass(frozen=True)
class Setting:
    """How a training step is computed."""

    name: str
    deterministic: bool = True
    cudnn_benchmark: bool = False
    precision: str = ""  # "": that of the recipe
    compile_mode: CompileMode = "eager"


def settings_of(device_type: str) -> list[Setting]:
    """Return the settings for a type of device, the ones that need no compilation first."""
    compiled = [Setting(mode, compile_mode=mode) for mode in COMPILED_MODES[device_type]]
    if device_type == "cpu":  # cuDNN and mixed precision are not used
        return [Setting("eager"), Setting("not deterministic", deterministic=False), *compiled]
    return [
        Setting("eager"),
        Setting("not deterministic", deterministic=False),
        Setting("cudnn.benchmark", cudnn_benchmark=True),
        Setting("not deterministic, cudnn.benchmark", deterministic=False, cudnn_benchmark=True),
        Setting("bf16", precision="bf16"),
        *compiled,
    ]


@contextmanager
def applied(setting: Setting) -> Iterator[None]:
    """Apply a setting to torch, and restore the settings of training afterwards."""
    make_deterministic()
    torch.use_deterministic_algorithms(setting.deterministic)
    torch.backends.cudnn.benchmark = setting.cudnn_benchmark
    try:
        yield
    finally:
        make_deterministic()
        reset_compiler()


def measure(spec: str, recipe: Recipe, setting: Setting, device: torch.device) -> dict[str, Any]:
    """Return the figures of one setting: milliseconds per step, images/s and peak memory.

    Args:
        spec: Spec of the model.
        recipe: Batch size and augmentation.
        setting: What to apply.
        device: Device to train on.
    """
    recipe = replace(recipe, precision=setting.precision or recipe.precision)
    started = time.perf_counter()
    torch.manual_seed(0)
    model = build(parse(spec).variant(), NUM_CLASSES).to(device).to(memory_format=torch.channels_last)
    memory = PeakMemory(model, device)
    step = TrainingStep(model, recipe, 1000, StepOptions(setting.compile_mode))
    generator = torch.Generator(device).manual_seed(0)

    def images(steps: int) -> DeviceImages:
        return random_images(steps * recipe.batch_size, INPUT_SHAPE, NUM_CLASSES, generator)

    train_epoch(step, images(NUM_WARM_UP_STEPS), NUM_WARM_UP_STEPS)
    ready = time.perf_counter() - started
    first = _seconds(step, images(NUM_WARM_UP_STEPS), NUM_WARM_UP_STEPS)
    steps = min(MAX_STEPS_PER_WINDOW, max(1, math.ceil(MIN_WINDOW_SECONDS / first)))
    split = images(steps)
    windows = [_seconds(step, split, steps) for _ in range(NUM_WINDOWS)]
    return {
        "milliseconds": 1e3 * median(windows),
        "fastest": 1e3 * min(windows),
        "slowest": 1e3 * max(windows),
        "n": NUM_WINDOWS,
        "images_per_second": recipe.batch_size / median(windows),
        "ready_seconds": ready,
        "peak_memory": memory.bytes(uses_graph(setting.compile_mode)),
    }


def _seconds(step: TrainingStep, split: DeviceImages, steps: int) -> float:
    """Return the seconds per step. An epoch ends with reading its loss, which waits for the device."""
    started = time.perf_counter()
    train_epoch(step, split, steps)
    return (time.perf_counter() - started) / steps


def count_macs(spec: str) -> int:
    """Return the multiply-adds of the convolutions and matrix products for one image."""
    return count_on_meta(lambda: build(parse(spec).variant(), NUM_CLASSES), INPUT_SHAPE).macs_torch or 0


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", help="spec of the model to train on random images")
    parser.add_argument("--out", type=Path, help="file to append the lines to")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", nargs="+", default=[], help="names of the settings to time; default: all")
    return parser.parse_args()


def _append(file: Path, line: str) -> None:
    """Append a line, also after one that was cut off."""
    content = file.read_text() if file.exists() else ""
    with file.open("a") as stream:
        stream.write(f"{line}\n" if not content or content.endswith("\n") else f"\n{line}\n")


def main() -> None:
    """Print a line for each setting."""
    restart_with_worker_environment()
    options = _parse_options()
    device = torch.device(options.device)
    use_device(options.device)
    recipe = replace(BENCHMARKS["cifar100"].recipe, batch_size=options.batch_size)
    suffix = ", cuDNN heuristic mode B" if os.environ.get(HEURISTIC_MODE_B) == "1" else ""
    common = {"device": device_name(options.device), "spec": options.spec, "batch_size": options.batch_size}
    macs = count_macs(options.spec)
    finished = [line for line in read_lines(options.out) if "milliseconds" in line] if options.out else []
    for setting in settings_of(device.type):
        name = setting.name + suffix
        if options.only and setting.name not in options.only:
            continue
        if any((common | {"setting": name}).items() <= line.items() for line in finished):
            continue
        try:
            with applied(setting):
                figures = {"macs": macs} | measure(options.spec, recipe, setting, device)
        except Exception as error:  # no compiler, not enough memory: the other settings continue
            figures = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        line = json.dumps(common | {"setting": name} | figures)
        print(line, flush=True)
        if options.out is not None:
            _append(options.out, line)


if __name__ == "__main__":
    main()
