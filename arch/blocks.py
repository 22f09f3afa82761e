"""Layers that timm lacks: small-image stems, pre-activation, pyramid and plain blocks with attention, GeM pooling."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arch.variant import EXPANSION, Variant

Layer = Callable[..., nn.Module]


def conv(in_chs: int, out_chs: int, kernel_size: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Create a convolution without bias that keeps the image size at stride 1."""
    return nn.Conv2d(in_chs, out_chs, kernel_size, stride, kernel_size // 2, groups=groups, bias=False)


def create_stem(kind: str, in_chans: int, width: int, order: str, act_layer: Layer) -> nn.Sequential:
    """Create the layers before the first stage.

    Args:
        kind: One of `arch.variant.STEMS`. Names with `_pool` end in 3x3 max pooling with stride 2.
        in_chans: Channels of the image.
        width: Output channels.
        order: "post" ends the stem with norm and activation, "pyramid" with norm, "pre" leaves both to the first block.
        act_layer: Activation class.
    """
    shape, _, pool = kind.partition("_")
    half = width // 2
    layers: list[nn.Module] = []
    if shape == "deep":
        layers += [conv(in_chans, half, 3), nn.BatchNorm2d(half), act_layer(inplace=True)]
        layers += [conv(half, half, 3), nn.BatchNorm2d(half), act_layer(inplace=True), conv(half, width, 3)]
    elif shape == "patch2":
        layers.append(nn.Conv2d(in_chans, width, 2, stride=2, bias=False))
    else:
        layers.append(conv(in_chans, width, 7, stride=2) if shape == "conv7" else conv(in_chans, width, 3))
    if order != "pre":
        layers.append(nn.BatchNorm2d(width))
    if order == "post":
        layers.append(act_layer(inplace=True))
    if pool:
        layers.append(nn.MaxPool2d(3, stride=2, padding=1))
    return nn.Sequential(*layers)


def stem_stride(kind: str) -> int:
    """Return the factor by which the stem reduces each side of the image."""
    return (2 if kind.startswith(("conv7", "patch2")) else 1) * (2 if kind.endswith("_pool") else 1)


class PadShortcut(nn.Module):
    """A shortcut without parameters: average pooling, then zero channels (option A of arXiv:1512.03385)."""

    def __init__(self, in_chs: int, out_chs: int, stride: int) -> None:
        super().__init__()
        if out_chs < in_chs:
            raise ValueError("pad_shortcut cannot reduce channels: a stage has fewer channels than the one before")
        self.padding = out_chs - in_chs
        self.pool = nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(self.pool(x), (0, 0, 0, 0, 0, self.padding))


class PreActBlock(nn.Module):
    """Pre-activation residual block (arXiv:1603.05027), or the block of PyramidNet (arXiv:1610.02915) if `pyramid`.

    The pre-activation block computes x + conv(act(norm( ... conv(act(norm(x)))))), with projection shortcuts starting
    after the first activation. The pyramid block has no first activation, one more norm at the end, and shortcuts
    starting from x.
    """

    def __init__(  # noqa: PLR0913  # like the blocks of timm
        self,
        in_chs: int,
        convs: list[nn.Conv2d],
        *,
        stride: int,
        shortcut: nn.Module | None,
        pyramid: bool,
        act_layer: Layer,
        attn_layer: Layer | None,
        aa_layer: Layer | None,
        drop_block: Layer | None = None,
        drop_path: nn.Module | None = None,
    ) -> None:
        """Create a block from the convolutions of its branch.

        If requested, the strided 3x3 convolution is followed by DropBlock (after its norm) and a blur.
        """
        super().__init__()
        self.preact = nn.Sequential(nn.BatchNorm2d(in_chs))
        if not pyramid:
            self.preact.append(act_layer(inplace=True))
        self.branch = nn.Sequential(convs[0])
        strided = 1 if len(convs) == 3 else 0  # index of the convolution whose output the blur downsamples
        for index, next_conv in enumerate(convs[1:]):
            channels = next_conv.in_channels
            self.branch.append(nn.BatchNorm2d(channels))
            if drop_block is not None and index == strided:
                self.branch.append(drop_block())
            self.branch.append(act_layer(inplace=True))
            if aa_layer is not None and stride > 1 and index == strided:
                self.branch.append(aa_layer(channels=channels, stride=stride))
            self.branch.append(next_conv)
        out_chs = convs[-1].out_channels
        if pyramid:
            self.branch.append(nn.BatchNorm2d(out_chs))
        self.attn = attn_layer(out_chs) if attn_layer is not None else nn.Identity()
        self.drop_path = drop_path if drop_path is not None else nn.Identity()
        self.shortcut = shortcut if shortcut is not None else nn.Identity()
        self.shortcut_from_input = pyramid or isinstance(self.shortcut, nn.Identity | PadShortcut)

    def forward(self, x: Tensor) -> Tensor:
        activated = self.preact(x)
        shortcut = self.shortcut(x if self.shortcut_from_input else activated)
        residual = self.drop_path(self.attn(self.branch(activated)))
        out: Tensor = residual + shortcut
        return out


class PlainBlock(nn.Module):
    """Block of a plain network (arXiv:1512.03385, section 4.1): 3x3 convolution, norm, activation, no shortcut.

    A stride becomes 3x3 max pooling before the convolution, followed by a blur if requested (arXiv:1904.11486,
    equation 3). Attention follows the activation, as SE does in such networks (arXiv:1709.01507, section 3.3).
    """

    def __init__(  # noqa: PLR0913  # like the blocks of timm
        self,
        in_chs: int,
        out_chs: int,
        stride: int,
        act_layer: Layer,
        attn_layer: Layer | None,
        aa_layer: Layer | None,
        drop_block: Layer | None = None,
    ) -> None:
        super().__init__()
        self.pool = nn.Sequential()
        if stride > 1:
            self.pool.append(nn.MaxPool2d(3, 1 if aa_layer is not None else stride, padding=1))
            if aa_layer is not None:
                self.pool.append(aa_layer(channels=in_chs, stride=stride))
        self.branch = nn.Sequential(conv(in_chs, out_chs, 3), nn.BatchNorm2d(out_chs))
        if drop_block is not None:
            self.branch.append(drop_block())
        self.branch.append(act_layer(inplace=True))
        self.attn = attn_layer(out_chs) if attn_layer is not None else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.attn(self.branch(self.pool(x)))
        return out


def branch_convs(variant: Variant, in_chs: int, width: int, stride: int) -> list[nn.Conv2d]:
    """Create the convolutions of a residual branch: two 3x3 (basic), or 1x1, 3x3, 1x1 (bottleneck)."""
    conv_stride = 1 if variant.blurpool else stride
    if variant.block == "basic":
        return [conv(in_chs, width, 3, conv_stride), conv(width, width, 3)]
    inner = variant.inner_width(width)
    return [
        conv(in_chs, inner, 1),
        conv(inner, inner, 3, conv_stride, variant.groups),
        conv(inner, width * EXPANSION, 1),
    ]


class GeM(nn.Module):
    """Generalized mean pooling with a learned exponent p (arXiv:1711.02512, equation 3).

    Maps (batch, channels, height, width) to (batch, channels). p = 1 is average pooling, p -> infinity max pooling.
    """

    pool_type = "gem"  # read by timm's ClassifierHead

    def __init__(self, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor([p]))
        self.eps = eps

    def feat_mult(self) -> int:
        """Return the number of output channels per input channel."""
        return 1

    def forward(self, x: Tensor) -> Tensor:
        powers = x.float().clamp(min=self.eps).pow(self.p)  # float32, because a cube exceeds the range of fp16
        mean = powers.mean((2, 3)).clamp(min=torch.finfo(torch.float32).tiny)  # the gradient of a root is infinite at 0
        return mean.pow(1.0 / self.p).to(x.dtype)
