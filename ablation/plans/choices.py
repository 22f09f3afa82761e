"""Choices that plans share with command-line options. This module imports nothing, so that `--help` stays fast."""

from typing import Literal

ControlMetric = Literal["params", "macs", "hours"]  # the cost in which a control matches its step
EqualQuantity = Literal["epochs", "updates"]  # what a data-size study keeps equal across subsets of the images
Subsets = Literal["fixed", "drawn"]  # the images of a fraction: the first ones, or those that the run's seed draws
InitialWeights = Literal["scratch", "imagenet"]  # the initial weights of the configs in a data-size study
AssignmentScale = Literal["cpu", "full"]  # a reduction for computers without a GPU, or the study at full size
MarkKind = Literal["reference", "goal", "other protocol"]  # see ablation.plans.assignments.Mark
MarkMetric = Literal["top1", "top5"]

# how changes are tested: see ablation.analysis.statistics
Pairing = Literal["unpaired", "paired"]
