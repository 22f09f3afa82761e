"""Replace the classifier of a model that returns another number of classes than the benchmark has."""

from typing import Any

from torch import nn

from benchmarks.sandbox.python.outputs import LogitsHook
from benchmarks.sandbox.python.trial import Builder, Trial, attempt


def fit_classifier(
    builder: Builder, trial: Trial, input_shape: tuple[int, int, int], hook: LogitsHook, given: str
) -> tuple[Builder, str]:
    """Replace the last layer, if the model then returns one logit per class; otherwise return the same builder.

    Args:
        builder: Builds the model.
        trial: What it returned.
        input_shape: (channels, height, width).
        hook: Its hook, which knows the number of classes.
        given: The argument with which the user has set another number of classes; "" if there is none.

    Returns:
        The builder, and a sentence about what was replaced or why nothing was.
    """
    classes, returned = hook.num_classes, trial.shape[1]
    reason = f"{given} is given" if given else "no argument of a usual name sets their number"
    hook.pin()
    together = [trial.classifiers] if len(trial.classifiers) > 1 else []  # heads whose outputs are added
    for layers in [*((layer,) for layer in trial.classifiers), *together]:
        replaced = builder
        for layer in layers:
            replaced = _with_classifier(replaced, layer, classes)
        if attempt(replaced, input_shape, hook).fits(classes):
            noun, verb = ("layer", "was replaced by one") if len(layers) == 1 else ("layers", "were replaced")
            return replaced, (
                f"the {noun} {', '.join(layers)} returned {returned} classes and {verb} for {classes}, because "
                f"{reason}; --classes {returned} keeps the number"
            )
    advice = f"leave {given} out" if given else "take num_classes in the constructor"
    return builder, (
        f"the model returns {returned} classes, because {reason}, and no layer could be replaced: {advice}, or "
        f"check the model as it is with --classes {returned}"
    )


def _with_classifier(builder: Builder, name: str, num_classes: int) -> Builder:
    """Return a builder of the same model whose layer `name` returns `num_classes` values."""

    def build() -> nn.Module:
        model = builder()
        owner_name, _, child = name.rpartition(".")
        layer = model.get_submodule(name)
        setattr(model.get_submodule(owner_name), child, _resized(layer, num_classes))
        return model

    return build


def _resized(layer: nn.Module, num_classes: int) -> nn.Module:
    has_bias, weight = layer.bias is not None, layer.weight
    options: dict[str, Any] = {"bias": has_bias, "device": weight.device, "dtype": weight.dtype}
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, num_classes, **options)
    assert isinstance(layer, nn.Conv2d)
    return nn.Conv2d(layer.in_channels, num_classes, 1, **options)
