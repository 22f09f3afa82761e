"""Export of a model: a Python module that registers it with timm, and a folder with weights that timm loads."""

import json
import keyword
import re
import tempfile
from pathlib import Path

from timm import create_model
from timm.models import save_for_hf
from torch import nn

import arch.models  # registers cifar_net
from benchmarks.definition.benchmark import Benchmark
from benchmarks.definition.recipe import per_channel
from benchmarks.execution.progress import Report
from benchmarks.records.atomic_write import replace_file, sync_folder
from benchmarks.training.tensor_file import read_tensors
from search.report.copied_plugins import CopiedPlugins, copy_plugins
from search.report.trained_model import TrainedModel

MODULE = '''"""{description}

    import timm, {name}
    timm.create_model("{name}")                               # random weights
    timm.create_model("local-dir:PATH/{folder}", pretrained=True)  # trained weights; PATH is the folder of this file
"""

{imports}

SPEC = {spec}
{plugins}

@register_model
def {name}(pretrained: bool = False, num_classes: int = {classes}, in_chans: int = {channels}, **kw: Any) -> nn.Module:
    """{spec_text}, for images of {size} px."""
    return {generic}(pretrained, spec=SPEC, num_classes=num_classes, in_chans=in_chans, **kw)
'''

IMPORTS = """from typing import Any

from timm.models import register_model
from torch import nn

from arch.models import {generic}"""

IMPORTS_WITH_PLUGINS = """from pathlib import Path
from typing import Any

from timm.models import register_model
from torch import nn

from arch.models import {generic}
from arch.plugins import load_plugins"""


def export(report: Report, trained: TrainedModel, folder: Path) -> list[Path]:
    """Write NAME.py, and NAME_timm/ with config.json and model.safetensors.

    An earlier export stays intact if this one fails.

    Args:
        report: Unused.
        trained: The model to export.
        folder: The folder to write to.

    Returns:
        The files that were written.

    Raises:
        OSError: If a file cannot be read or written.
        ValueError: If the name is not a valid function name or the weights are damaged.
    """
    name = trained.name
    if not name.isidentifier() or keyword.iskeyword(name):
        raise ValueError(f"{name!r} is not a valid name of a Python function")
    data, model_folder = trained.benchmark.data, folder / f"{name}_timm"
    model = create_model(arch.models.GENERIC, spec=trained.spec, num_classes=data.num_classes, in_chans=data.in_chans)
    model.load_state_dict(read_tensors(trained.weights)[0])
    folder.mkdir(parents=True, exist_ok=True)
    plugins = copy_plugins(trained.spec, folder / f"{name}_plugins")
    _save_for_timm(model, plugins.spec, trained.benchmark, model_folder)
    module = folder / f"{name}.py"
    text = _module_text(trained, model_folder.name, plugins)
    replace_file(module, lambda path: path.write_text(text))
    return [module, *plugins.files, *sorted(model_folder.iterdir())]


def _save_for_timm(model: nn.Module, spec: str, benchmark: Benchmark, model_folder: Path) -> None:
    """Write config and weights, and replace the old folder as a whole because they belong together."""
    with tempfile.TemporaryDirectory(dir=model_folder.parent, ignore_cleanup_errors=True) as temporary:
        new_folder = Path(temporary) / "new"
        save_for_hf(
            model,
            str(new_folder),
            model_args={"spec": spec, "in_chans": benchmark.data.in_chans},
            safe_serialization=True,
            data_config=_data_config(benchmark),
        )
        if model_folder.exists():
            model_folder.rename(Path(temporary) / "old")
        new_folder.rename(model_folder)
    sync_folder(model_folder.parent)


def _data_config(benchmark: Benchmark) -> dict[str, tuple[float, ...]]:
    """Return the preprocessing as a data config of timm."""
    data, recipe = benchmark.data, benchmark.recipe
    return {
        "input_size": data.input_shape,
        "mean": per_channel(recipe.mean, data.in_chans),
        "std": per_channel(recipe.std, data.in_chans),
    }


def _module_text(trained: TrainedModel, model_folder: str, plugins: CopiedPlugins) -> str:
    data, generic = trained.benchmark.data, arch.models.GENERIC
    return MODULE.format(
        description=re.sub(r'["\\]', "'", trained.description),
        name=trained.name,
        folder=model_folder,
        generic=generic,
        imports=(IMPORTS_WITH_PLUGINS if plugins else IMPORTS).format(generic=generic),
        plugins=plugins.code(),
        spec=json.dumps(plugins.spec),
        spec_text=trained.spec,
        classes=data.num_classes,
        channels=data.in_chans,
        size=data.image_size,
    )
