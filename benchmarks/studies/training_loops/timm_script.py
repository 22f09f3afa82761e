"""timm's own training script, `train.py` from a clone of pytorch-image-models, in a separate process.

timm's wheel does not contain the script. It gets the images from memory instead of files; everything else is unchanged.
"""

import os
import re
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.execution.environment import WORKER_ENVIRONMENT
from benchmarks.studies.training_loops.workload import EpochTimer, Workload

STEP_SECONDS = re.compile(r"Train: 1 .*\((\d+\.\d+)s,")  # mean time of a step so far, in the second epoch
MAX_STDERR_CHARACTERS = 2000  # number of trailing characters in an error message


def timm_script(workload: Workload, script: Path) -> EpochTimer:
    """Prepare the loop. Each call trains two epochs in a new process and returns the seconds of the second.

    Args:
        workload: What to train.
        script: timm's `train.py`.
    """

    def epoch() -> float:
        with tempfile.TemporaryDirectory() as folder:
            np.savez(Path(folder, "images.npz"), images=workload.images, labels=workload.labels)
            command = [sys.executable, "-m", __name__, str(script.resolve()), folder]
            process = subprocess.run(
                [*command, *_arguments(workload, folder)],
                capture_output=True,
                text=True,
                cwd=Path(__file__).parents[3],
                env={name: os.environ[name] for name in os.environ.keys() - WORKER_ENVIRONMENT.keys()},
            )
        times = STEP_SECONDS.findall(process.stdout + process.stderr)
        if process.returncode or not times:
            raise RuntimeError(f"{script} failed:\n{process.stderr[-MAX_STDERR_CHARACTERS:]}")
        return float(times[-1]) * workload.steps

    return epoch


def _arguments(workload: Workload, folder: str) -> list[str]:
    recipe = workload.recipe
    options: dict[str, Any] = {
        "data-dir": folder,
        "model": "cifar_net",
        "model-kwargs": f"spec='{workload.spec}'",
        "num-classes": workload.num_classes,
        "batch-size": recipe.batch_size,
        "epochs": 2,
        "opt": "sgd",
        "lr": recipe.lr,
        "momentum": recipe.momentum,
        "weight-decay": recipe.weight_decay,
        "warmup-epochs": 0,
        "smoothing": recipe.label_smoothing,
        "hflip": recipe.flip,
        "workers": workload.workers,
        "log-interval": workload.steps,
        "device": workload.device.type,
        "output": folder,
        "val-split": "",
        "color-jitter": 0,
    }
    flags = ["--channels-last", *(["--amp"] if workload.scaler().is_enabled() else []), "--scale", "1", "1"]
    crop = ["--ratio", "1", "1", "--input-size", *map(str, (3, *workload.images.shape[1:3]))]
    return [*(f"--{name}={value}" for name, value in options.items()), *flags, *crop]


def main() -> None:
    """Run the script with our models registered in timm, and with the workload's images instead of a folder."""
    script, folder = sys.argv[1:3]
    sys.argv = [script, *sys.argv[3:]]
    import timm.data

    import arch.models  # noqa: F401  # registers cifar_net with timm
    from benchmarks.studies.training_loops.dataloader import PilImages

    with np.load(Path(folder, "images.npz")) as file:
        dataset = PilImages(file["images"], file["labels"])
    timm.data.create_dataset = lambda *_, **__: dataset
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
