"""Import a run of timm's training script as a benchmark. Called in a worker process, because timm imports torch."""

from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

import torch
from timm import is_model
from timm.data import resolve_data_config
from timm.models import get_pretrained_cfg

from arch.models import build
from arch.spec import TIMM_PREFIX, parse
from arch.timm_net import ImageFormat
from benchmarks.definition.benchmark import Benchmark
from benchmarks.definition.registry import validate_benchmark
from benchmarks.definition.timm_args import TimmArgs, missing_keys, parse_args
from benchmarks.definition.timm_benchmark import ModelDefaults, benchmark_content, notes
from benchmarks.definition.timm_unsupported import setting, unsupported_settings
from benchmarks.execution.progress import Report
from benchmarks.training.optimizer import check_optimizer

FALLBACK = "resnet50"  # the baseline if timm does not have the model; it is also the script's default model


def import_timm_run(
    report: Report, content: dict[str, Any], path: Path, name: str, world_size: int
) -> tuple[Benchmark, list[str]]:
    """Return the benchmark of a run of timm's script, and a line for each setting that is not or not exactly imported.

    Args:
        report: Unused.
        content: The keys and values of the run's `args.yaml`.
        path: The file, for error messages.
        name: Name of the benchmark.
        world_size: The number of devices of the run.

    Raises:
        InputError: If a value is invalid, or the optimizer does not exist or rejects its options.
    """
    args = parse_args(content, path)
    model, problems = _model_defaults(args)
    benchmark = validate_benchmark(benchmark_content(args, model, name, world_size), path)
    check_optimizer(benchmark.recipe)
    lines = [f"not imported: {line}" for line in (*problems, *unsupported_settings(content, args))]
    if missing := missing_keys(content):
        lines.append(f"note: missing keys get the defaults of timm 1.0.31: {', '.join(missing)}")
    return benchmark, [*lines, *(f"note: {line}" for line in notes(args, world_size))]


def _model_defaults(args: TimmArgs) -> tuple[ModelDefaults, list[str]]:
    """Look up the defaults of the model, and return a line for each of them that cannot be imported."""
    name, _, tag = args.model.rpartition("/")[2].partition(".")
    problems: list[str] = []
    if not is_model(name):
        problems.append(setting("model", args.model, f"timm has no such model: the baseline is timm/{FALLBACK}"))
        name, tag = FALLBACK, ""
    cfg = get_pretrained_cfg(f"{name}.{tag}" if tag else name, allow_unregistered=True)
    config = resolve_data_config(asdict(args), pretrained_cfg=cfg.to_dict() if cfg else {})
    if config["crop_pct"] != 1:
        problems.append(setting("crop_pct", config["crop_pct"], "test images are resized to image_size, not cropped"))
    in_chans, image_size, _ = config["input_size"]
    num_classes = args.num_classes or (cfg.num_classes if cfg else 1000)
    mean, std = (_fit_channels(tuple(config[key]), in_chans) for key in ("mean", "std"))
    baseline = f"{TIMM_PREFIX}{name}"
    with torch.device("meta"):
        net = build(parse(baseline).architecture, num_classes, in_chans, ImageFormat(image_size, mean, std))
    params = sum(prod(parameter.shape) for parameter in net.parameters())
    defaults = ModelDefaults(baseline, params, num_classes, image_size, in_chans, mean, std, config["interpolation"])
    return defaults, problems


def _fit_channels(values: tuple[float, ...], in_chans: int) -> tuple[float, ...]:
    """Return one value per channel: as in timm, their average if the model has another number of channels."""
    return values if len(values) == in_chans else (sum(values) / len(values),) * in_chans
