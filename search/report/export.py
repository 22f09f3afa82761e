"""A winner in files: a module that registers it with timm, and its weights with the config that timm loads."""

import json
import keyword
import re
import tempfile
from pathlib import Path

from timm import create_model
from timm.models import save_for_hf

import arch.models  # registers cifar_net
from benchmarks.definition.benchmark import Benchmark
from benchmarks.execution.progress import Report
from benchmarks.records.atomic_write import replace_file, sync_folder
from benchmarks.training.checkpoint import read_tensors

MODULE = '''"""{title}

    import timm, {name}
    timm.create_model("{name}")                               # fresh weights
    timm.create_model("local-dir:PATH/{folder}", pretrained=True)  # the search's: PATH is where this file lies
"""

from typing import Any

from timm.models import register_model
from torch import nn

from arch.models import {generic}

SPEC = {spec}


@register_model
def {name}(pretrained: bool = False, num_classes: int = {classes}, in_chans: int = {channels}, **kw: Any) -> nn.Module:
    """{spec_text}, for images of {size} px."""
    return {generic}(pretrained, spec=SPEC, num_classes=num_classes, in_chans=in_chans, **kw)
'''


def export(
    report: Report, spec: str, name: str, title: str, benchmark: Benchmark, weights: Path, folder: Path
) -> list[Path]:
    """Writes folder/NAME.py, and folder/NAME_timm/ with config.json and model.safetensors; returns what was written.

    weights: as `benchmarks.runs.train_run` leaves them. Raises OSError, and ValueError where they are not whole.
    """
    if not name.isidentifier() or keyword.iskeyword(name):
        raise ValueError(f"{name!r} cannot be the name of a function")
    data, model_folder = benchmark.data, folder / f"{name}_timm"
    model = create_model(arch.models.GENERIC, spec=spec, num_classes=data.num_classes, in_chans=data.in_chans)
    model.load_state_dict(read_tensors(weights)[0])
    recipe = benchmark.recipe
    reads = {
        "input_size": data.input_shape,
        "mean": (recipe.mean,) * data.in_chans,
        "std": (recipe.std,) * data.in_chans,
    }
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as temporary:
        whole = Path(temporary) / "new"
        save_for_hf(
            model,
            str(whole),
            model_args={"spec": spec, "in_chans": data.in_chans},
            safe_serialization=True,
            data_config=reads,
        )
        if model_folder.exists():  # config and weights belong together: they change together
            model_folder.rename(Path(temporary) / "old")
        whole.rename(model_folder)
    sync_folder(folder)
    module = folder / f"{name}.py"
    text = MODULE.format(
        title=re.sub(r'["\\]', "'", title),
        name=name,
        folder=model_folder.name,
        generic=arch.models.GENERIC,
        spec=json.dumps(spec),
        spec_text=spec,
        classes=data.num_classes,
        channels=data.in_chans,
        size=data.image_size,
    )
    replace_file(module, lambda path: path.write_text(text))
    return [module, *sorted(model_folder.iterdir())]
