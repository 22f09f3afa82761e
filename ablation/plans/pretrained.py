"""Initial weights in a plan: resolve their sources to digests, and keep the files in the output folder.

A source is a file, `hub` (timm's default weights of the model) or `hub:TAG` (other timm weights).
"""

import shutil
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path

from ablation.plans.plan import Plan, make_plan
from arch.errors import InputError
from arch.spec import parse
from arch.timm_model import TimmModel
from benchmarks.definition.config_parser import HUB, WEIGHTS_DIGEST, split_settings
from benchmarks.definition.overrides import RunConfig, TrainingOverrides
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.progress import Display, Progress, Report
from benchmarks.records.atomic_write import replace_file
from benchmarks.records.paths import initial_weights_file
from benchmarks.records.weights_file import check_weights, digest_of, header_of


def with_pretrained(plan: Plan, out: Path | None) -> Plan:
    """Return the plan with every source of initial weights replaced by the digest of the weights.

    Args:
        plan: The plan. If nothing has to be replaced, it is returned with its text as it is.
        out: The output folder, which keeps a copy of the weights so that a study can continue without the original
            file. None keeps no copy.

    Raises:
        InputError: If a source does not exist, contains no weights, or cannot be copied to `out`.
    """
    resolve = cache(lambda source, model: resolve_weights(source, model, out))

    def resolved(config: RunConfig) -> RunConfig:
        overrides = config.overrides
        if overrides.initial_weights:
            architecture = config.architecture
            model = architecture.name if isinstance(architecture, TimmModel) else None
            overrides = replace(overrides, initial_weights=resolve(_source(config), model))
        if overrides.teacher is not None and overrides.distillation is not None:
            distillation = replace(overrides.distillation, teacher=resolved(overrides.teacher))
            overrides = replace(overrides, distillation=distillation)
        if overrides.initial_run is not None:
            overrides = replace(overrides, initial_run=resolved(overrides.initial_run))
        return replace(config, overrides=overrides)

    definition = plan.definition.with_configs(resolved)
    return plan if definition == plan.definition else make_plan(definition)


def _source(config: RunConfig) -> str:
    """Return the source of a config's weights. If the name of the timm model has a tag, `hub` means `hub:TAG`.

    Raises:
        InputError: If the name has a tag, and the source is a file or has another tag.
    """
    source, tag = config.overrides.initial_weights, config.spec.tag
    if not tag or WEIGHTS_DIGEST.fullmatch(source):  # a digest was resolved before
        return source
    if source not in (HUB, f"{HUB}:{tag}"):
        raise InputError(f"{config.spec}: the name has the tag {tag}, but @init={source} names other weights")
    return f"{HUB}:{tag}"


def resolve_weights(source: str, model: str | None, out: Path | None) -> str:
    """Return the digest of the weights that `source` names, and keep a copy of them.

    Args:
        source: A file, `hub` or `hub:TAG`, or the digest of weights that `out` already contains.
        model: The name of the timm model that starts from the weights; None for any other network.
        out: The output folder; None keeps no copy.

    Raises:
        InputError: See `with_pretrained`.
    """
    if WEIGHTS_DIGEST.fullmatch(source) and not Path(source).exists():
        if out is not None and not initial_weights_file(out, source).exists():
            raise InputError(
                f"{out / 'initial'} has no weights {source}: name their file with --pretrained FILE.safetensors, or in "
                "the spec, as in @init=FILE.safetensors"
            )
        return source
    word, _, tag = source.partition(":")
    path = _fetch_from_hub(model, tag) if word == HUB else _path(source)
    check_weights(path)
    digest = digest_of(path)
    if out is None:
        return digest
    kept = initial_weights_file(out, digest, source if word == HUB else path.stem)
    if not _is_kept(kept, digest):
        try:
            replace_file(kept, lambda file: shutil.copyfile(path, file))
        except OSError as error:
            raise InputError(f"cannot copy {path} to --out {out}: {error.strerror or error}") from error
    return digest


def _path(source: str) -> Path:
    """Expand `~/`, which the shell does not do after `@init=`."""
    return Path(source).expanduser() if source.startswith("~/") else Path(source)


def _is_kept(file: Path, digest: str) -> bool:
    """Return whether the copy exists and is unchanged."""
    return file.is_file() and digest_of(file) == digest


def _fetch_from_hub(model: str | None, tag: str) -> Path:
    if model is None:
        raise InputError("'@init=hub' needs a timm model, as in timm/resnet18@init=hub; for others, name a file")
    with Display() as display:
        path: Path = LocalExecutor().call(
            "ablation.plans.pretrained:fetch", display, f"{model}.{tag}" if tag else model
        )
    return path


def fetch(report: Report, name: str) -> Path:
    """Run `benchmarks.training.hub.fetch_weights` in a worker process, as importing timm takes seconds."""
    from benchmarks.training.hub import fetch_weights

    report(Progress("fetching weights", 0, 1, name))
    return fetch_weights(name)


def recorded_network(file: Path) -> RunConfig:
    """Return the network that an earlier run trained, as a teacher that is used without training.

    Args:
        file: The weights file of the run.

    Raises:
        InputError: If the file cannot be read or does not contain the spec of its network.
    """
    spec = header_of(file).get("spec")
    if not isinstance(spec, str):
        raise InputError(f"{file} does not contain the spec of its network: use SPEC@init={file}@epochs=0")
    overrides = TrainingOverrides(epochs_factor=Fraction(0), initial_weights=str(file))
    return RunConfig(parse(split_settings(spec)[0]), overrides)
