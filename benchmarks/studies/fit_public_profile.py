"""Fit a device profile to the training throughput that timm publishes for hundreds of networks, and report its errors.

    python -m benchmarks.studies.fit_public_profile DATA_FOLDER [--cache FOLDER] [--out PROFILE.json]

DATA_FOLDER contains timm's `results/benchmark-train-amp-*-pt112-cu113-rtx3090.csv` (huggingface/pytorch-image-models,
Apache-2.0, commit aa4b5850). Every network is built on the meta device, without weights, and one training step of it is
traced at its published image and batch size; that takes half an hour on two cores, and --cache keeps the traces.

Networks are left out if timm does not have them any more, if timm now builds another network under their name (the
number of parameters differs), or if their layers were replaced since (`REPLACED`). The errors are those of networks
that were left out of the fit: in ten folds, and with their whole family (the module of timm).
"""

import argparse
import csv
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from timm.layers import set_fused_attn

from benchmarks.budget.operators import training_work
from benchmarks.budget.profile import DeviceProfile, FamilyError
from benchmarks.budget.roofline import Loads, fit, loads_of, predict

FILES = {layout: f"benchmark-train-amp-{layout}-pt112-cu113-rtx3090.csv" for layout in ("nhwc", "nchw")}
SOURCE = {
    "repository": "huggingface/pytorch-image-models",
    "file": f"results/{FILES['nhwc']}",
    "commit": "aa4b5850",
    "license": "Apache-2.0",
    "script": "benchmarks/studies/fit_public_profile.py",
}
VERSIONS = {"torch": "1.12", "cuda": "11.3"}  # of the measurements
IMAGE_SIZES = (96, 480)  # of the measurements, in pixels
REPLACED = ("tresnet", "sequencer")  # in-place activated norms are gone; a recurrent layer is traced step by step
MAX_PARAMS_DIFFERENCE = 0.01  # relative
NUM_FOLDS = 10
FP16 = "fp16"


@dataclass(frozen=True)
class Step:
    """A published training step of one network, and the loads of its trace."""

    name: str
    family: str
    seconds: float
    loads: Loads


@dataclass(frozen=True)
class Trace:
    """One training step of a network as the installed timm builds it."""

    params: int
    family: str
    loads: Mapping[str, float]


def parse_options(description: str | None) -> argparse.Namespace:
    """Return the command line of a study that writes a profile: data, cache and out."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with timm's measurements")
    parser.add_argument("--cache", type=Path, help="folder for the traces")
    parser.add_argument("--out", type=Path, help="path of the profile to write")
    return parser.parse_args()


def main() -> None:
    """Print the errors of both memory layouts, and write the profile of channels_last."""
    options = parse_options(__doc__)
    set_fused_attn(enable=False)  # as in the timm of the measurements
    for layout, file in FILES.items():
        steps = read_steps(options.data / file, options.cache)
        by_net, by_family = errors_by_net(steps), errors_by_family(steps)
        print(
            f"{layout}: {len(steps)} networks; left out alone: {_summary(by_net)}; with family: {_summary(by_family)}"
        )
        if layout == "nhwc" and options.out:
            options.out.write_text(json.dumps(asdict(new_profile(steps, by_family)), indent=1) + "\n")
        _print_worst(steps, by_net)


def read_steps(file: Path, cache: Path | None) -> list[Step]:
    """Read the published steps of all networks that the installed timm still builds, and print the others."""
    steps: list[Step] = []
    skipped: dict[str, list[str]] = defaultdict(list)
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    for row in rows:
        name, size, batch = row["model"], int(row["train_img_size"]), int(row["train_batch_size"])
        if name.startswith(REPLACED):
            skipped["layers replaced"].append(name)
            continue
        try:
            trace = _cached_trace(name, size, batch, cache)
        except RuntimeError as error:  # timm's message for an unknown name, or an operator without a meta kernel
            skipped[str(error).partition(" (")[0]].append(name)
            continue
        if abs(trace.params / float(row["param_count"]) / 1e6 - 1) > MAX_PARAMS_DIFFERENCE:
            skipped["other parameters"].append(name)
            continue
        steps.append(Step(name, trace.family, float(row["train_step_time"]) / 1000, Counter(trace.loads)))
    for reason, names in skipped.items():
        print(f"{file.name}: {len(names)} networks left out ({reason}): {', '.join(names)}")
    return steps


def _cached_trace(name: str, size: int, batch: int, cache: Path | None) -> Trace:
    """Return the trace of one training step; the cache has one file per trace."""
    path = cache / f"{name}__{size}__{batch}.json" if cache else None
    if path is not None:
        with suppress(OSError):
            return Trace(**json.loads(path.read_text()))
    model = _build(name, size)
    loads = loads_of(training_work(model, (3, size, size), batch, FP16), cache=0)
    params = sum(parameter.numel() for parameter in model.parameters())
    trace = Trace(params, type(model).__module__.rpartition(".")[2], dict(loads))
    if path is not None:
        path.write_text(json.dumps(asdict(trace)))
    return trace


def _build(name: str, size: int) -> torch.nn.Module:
    """Build a network on the meta device; some take the image size, the others do not."""
    with torch.device("meta"):
        try:
            model = timm.create_model(name, img_size=size)
        except TypeError:
            model = timm.create_model(name)
    return model


def errors_by_net(steps: Sequence[Step]) -> NDArray[np.float64]:
    """Return the relative errors when a tenth of the networks is left out of the fit at a time."""
    folds = np.random.default_rng(0).permutation(len(steps)) % NUM_FOLDS
    return _cross_validate(steps, [str(fold) for fold in folds])


def errors_by_family(steps: Sequence[Step]) -> NDArray[np.float64]:
    """Return the relative errors when a whole family is left out of the fit at a time."""
    return _cross_validate(steps, [step.family for step in steps])


def _cross_validate(steps: Sequence[Step], folds: Sequence[str]) -> NDArray[np.float64]:
    errors = np.zeros(len(steps))
    for fold in sorted(set(folds)):
        others = [step for step, own in zip(steps, folds, strict=True) if own != fold]
        profile = new_profile(others, np.zeros(len(others)))
        for number, (step, own) in enumerate(zip(steps, folds, strict=True)):
            if own == fold:
                errors[number] = predict(profile, step.loads) / step.seconds - 1
    return errors


def new_profile(steps: Sequence[Step], errors: NDArray[np.float64]) -> DeviceProfile:
    """Fit a profile to all steps; `errors` are those of the steps when they were left out."""
    families: dict[str, list[float]] = defaultdict(list)
    for step, error in zip(steps, errors.tolist(), strict=True):
        families[step.family].append(abs(error))
    return DeviceProfile(
        device="NVIDIA GeForce RTX 3090",
        precision=FP16,
        versions=VERSIONS,
        nets=len(steps),
        median_error=_quantile(errors, 0.5),
        worst_error=_quantile(errors, 0.9),
        cache=0,
        seconds_per=fit([step.loads for step in steps], [step.seconds for step in steps]),
        format=2,
        source=SOURCE,
        image_sizes=IMAGE_SIZES,
        error_by_family={
            family: FamilyError(len(own), _quantile(own, 0.5), _quantile(own, 0.9))
            for family, own in sorted(families.items())
        },
    )


def _quantile(errors: Sequence[float] | NDArray[np.float64], share: float) -> float:
    return round(float(np.quantile(np.abs(errors), share)), 4)


def _summary(errors: NDArray[np.float64]) -> str:
    return f"median {100 * _quantile(errors, 0.5):.1f}%, 90th percentile {100 * _quantile(errors, 0.9):.1f}%"


def _print_worst(steps: Sequence[Step], errors: NDArray[np.float64]) -> None:
    for number in np.argsort(-np.abs(errors))[:20]:
        print(f"  {steps[number].name}: {100 * errors[number]:+.0f}%")


if __name__ == "__main__":
    main()
