"""`ResidualNet`: the module that a `Variant` describes, with the interface of timm models."""

from dataclasses import replace
from typing import Any

from timm.layers import ClassifierHead
from timm.models import checkpoint_seq
from timm.models._features import feature_take_indices
from timm.models.res2net import Bottle2neck
from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from arch.block_factory import create_block
from arch.blocks import GeM, create_stem, stem_stride
from arch.custom_layers import (
    create_custom_pool,
    create_custom_stem,
    custom_stem_stride,
    find_activation,
    output_channels,
)
from arch.layers import is_custom
from arch.regularization import block_rates
from arch.standardization import standardize_weights
from arch.variant import POOLS, Variant


class ResidualNet(nn.Module):
    """An image classifier: stem, stages of blocks, final norm, classifier head.

    Maps (batch, in_chans, height, width) to (batch, num_classes), or to features if num_classes is 0.
    """

    def __init__(  # noqa: PLR0913  # the interface of timm
        self,
        variant: Variant,
        num_classes: int = 100,
        in_chans: int = 3,
        global_pool: str | None = None,
        drop_rate: float | None = None,
        drop_path_rate: float | None = None,
    ) -> None:
        """Create the module. `global_pool`, `drop_rate` and `drop_path_rate` override the variant."""
        super().__init__()
        self.variant = variant
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.grad_checkpointing = False
        act_layer = find_activation(variant.act)
        if is_custom(variant.stem):
            self.stem = create_custom_stem(variant, in_chans, act_layer)
        else:
            self.stem = create_stem(variant.stem, in_chans, variant.stem_width, variant.order, act_layer)
        self.stages, self.feature_info = self._create_stages(drop_path_rate)
        self.num_features: int = self.feature_info[-1]["num_chs"]
        norm_act = [nn.BatchNorm2d(self.num_features), act_layer(inplace=True)] if variant.order != "post" else []
        self.norm = nn.Sequential(*norm_act)
        pool = variant.pool if global_pool is None else global_pool
        dropout = variant.dropout if drop_rate is None else drop_rate
        self.head = ClassifierHead(self.num_features, num_classes, "avg", dropout)
        self.reset_classifier(num_classes, pool)
        if variant.weight_standardization:
            standardize_weights(nn.ModuleList([self.stem, self.stages]))
        self.init_weights()

    @property
    def head_hidden_size(self) -> int:
        """Input channels of the classifier."""
        return int(self.head.num_features)

    def init_weights(self) -> None:
        """Apply He initialization (arXiv:1502.01852).

        The last norm of a post-activation branch starts at 0, unless LayerScale already makes the branch small.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for module in self.modules():
            if isinstance(module, BasicBlock | Bottleneck | Bottle2neck):
                if not self.variant.layer_scale:
                    module.zero_init_last()
            elif module is not self and callable(own := getattr(module, "init_weights", None)):
                own()  # a layer of a plugin

    def _create_stages(self, drop_path_rate: float | None) -> tuple[nn.Sequential, list[dict[str, Any]]]:
        variant = _with_drop_path(self.variant, drop_path_rate)
        rates = block_rates(variant)
        chs = variant.stem_width
        reduction = custom_stem_stride(variant) if is_custom(variant.stem) else stem_stride(variant.stem)
        stages, info = nn.Sequential(), []
        for index, (widths, stride) in enumerate(zip(variant.block_widths(), variant.strides, strict=True)):
            stage = nn.Sequential()
            stage_variant = replace(variant, attention=variant.attention_in(index + 1))
            for number, width in enumerate(widths):
                shape = (chs, width, stride if number == 0 else 1)
                stage.append(create_block(stage_variant, shape, rates[index][number]))
                chs = output_channels(variant, width)
            stages.append(stage)
            reduction *= stride
            info.append({"num_chs": chs, "reduction": reduction, "module": f"stages.{index}"})
        return stages, info

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return regular expressions that group parameters by depth, for timm's layer decay."""
        return {"stem": r"^stem", "blocks": r"^stages\.(\d+)" if coarse else r"^stages\.(\d+)\.(\d+)"}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations in the backward pass instead of storing them."""
        self.grad_checkpointing = enable

    def get_classifier(self, name_only: bool = False) -> nn.Module | str:
        """Return the last linear layer, or its name if `name_only`."""
        return "head.fc" if name_only else self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier with a new one for `num_classes` (0: none) and optionally the pooling ("": none)."""
        is_plugins = global_pool is not None and is_custom(global_pool)
        if global_pool not in (None, "", *POOLS) and not is_plugins:
            raise ValueError(f"unknown global_pool {global_pool!r}; valid: {', '.join(POOLS)}")
        self.num_classes = num_classes
        self.head.reset(num_classes, "avg" if global_pool == "gem" or is_plugins else global_pool)
        if global_pool == "gem":
            self.head.global_pool = GeM()
        elif global_pool is not None and is_plugins:
            self.head.global_pool = create_custom_pool(global_pool, self.num_features)

    def _stage(self, index: int, x: Tensor) -> Tensor:
        if self.grad_checkpointing and self.training:
            x = checkpoint_seq(self.stages[index], x)
        else:
            x = self.stages[index](x)
        return x

    def forward_intermediates(  # noqa: PLR0913  # the interface of timm
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return the outputs of the stages in `indices` (an int: the last n; None: all), like timm models."""
        if output_fmt != "NCHW":
            raise ValueError("output_fmt must be NCHW")
        take, last = feature_take_indices(len(self.stages), indices)
        intermediates = []
        x = self.stem(x)
        for index in range(last + 1 if stop_early else len(self.stages)):
            x = self._stage(index, x)
            if index in take:
                final = norm and index == len(self.stages) - 1
                intermediates.append(self.norm(x) if final else x)
        return intermediates if intermediates_only else (self.norm(x), intermediates)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove the stages after the last one in `indices`, and layers that are no longer used."""
        take, last = feature_take_indices(len(self.stages), indices)
        if prune_norm or last < len(self.stages) - 1:
            self.norm = nn.Sequential()
        self.stages = self.stages[: last + 1]
        if prune_head:
            self.reset_classifier(0, "")
        return list(take)

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images to the output of the last stage: (batch, num_features, height, width), at reduced resolution."""
        x = self.stem(x)
        for index in range(len(self.stages)):
            x = self._stage(index, x)
        out: Tensor = self.norm(x)
        return out

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Map features to logits, or to the input of the classifier if `pre_logits`."""
        out: Tensor = self.head(x, pre_logits=pre_logits)
        return out

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def _with_drop_path(variant: Variant, rate: float | None) -> Variant:
    """Return `variant` with this rate of stochastic depth, which replaces ShakeDrop unless it is 0; None: unchanged."""
    if rate is None:
        return variant
    return replace(variant, drop_path=rate, shakedrop=0.0 if rate else variant.shakedrop)
