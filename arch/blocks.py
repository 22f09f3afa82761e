"""The layers timm lacks: stems for small images, pre-activation, pyramid and plain blocks with attention, GeM."""

from collections.abc import Callable

import torch
from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn import functional as F

from arch.variant import EXPANSION

Layer = Callable[..., nn.Module]


def conv(in_chs: int, out_chs: int, kernel_size: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution without bias that keeps the image size at stride 1."""
    return nn.Conv2d(in_chs, out_chs, kernel_size, stride, kernel_size // 2, groups=groups, bias=False)


def create_stem(kind: str, in_chans: int, width: int, order: str, act_layer: Layer) -> nn.Sequential:
    """The layers before the first stage.

    kind: one of `arch.variant.STEMS`; `_pool` ends in a 3x3 max pooling of stride 2.
    order: "post" ends the stem in norm and activation, "pyramid" in norm, "pre" leaves both to the first block.
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
    """How many times smaller the stem makes each side of the image."""
    return (2 if kind.startswith(("conv7", "patch2")) else 1) * (2 if kind.endswith("_pool") else 1)


class PadShortcut(nn.Module):
    """A shortcut without parameters: average pooling, then zero channels (option A of arXiv:1512.03385)."""

    def __init__(self, in_chs: int, out_chs: int, stride: int) -> None:
        super().__init__()
        if out_chs < in_chs:
            raise ValueError("pad_shortcut cannot narrow a net: a stage has fewer channels than the one before")
        self.missing = out_chs - in_chs
        self.pool = nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(self.pool(x), (0, 0, 0, 0, 0, self.missing))


class PreActBlock(nn.Module):
    """Pre-activation residual block (arXiv:1603.05027), or PyramidNet's (arXiv:1610.02915) when `pyramid`.

    Pre-activation: x + conv(act(norm( ... conv(act(norm(x)))))); a projecting shortcut starts after the first act.
    Pyramid: no first activation, one more norm at the end, and the shortcut starts from x.
    """

    def __init__(
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
        drop_path: float,
    ) -> None:
        """Takes the branch's convolutions in order; the 3x3 one with a stride may be followed by a blur."""
        super().__init__()
        self.preact = nn.Sequential(nn.BatchNorm2d(in_chs))
        if not pyramid:
            self.preact.append(act_layer(inplace=True))
        self.branch = nn.Sequential(convs[0])
        strided = 1 if len(convs) == 3 else 0  # the convolution whose output a blur would downsample
        for index, next_conv in enumerate(convs[1:]):
            channels = next_conv.in_channels
            self.branch.extend([nn.BatchNorm2d(channels), act_layer(inplace=True)])
            if aa_layer is not None and stride > 1 and index == strided:
                self.branch.append(aa_layer(channels=channels, stride=stride))
            self.branch.append(next_conv)
        out_chs = convs[-1].out_channels
        if pyramid:
            self.branch.append(nn.BatchNorm2d(out_chs))
        self.attn = attn_layer(out_chs) if attn_layer is not None else nn.Identity()
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()
        self.shortcut = shortcut if shortcut is not None else nn.Identity()
        self.shortcut_from_input = pyramid or isinstance(self.shortcut, nn.Identity | PadShortcut)

    def forward(self, x: Tensor) -> Tensor:
        activated = self.preact(x)
        shortcut = self.shortcut(x if self.shortcut_from_input else activated)
        residual = self.drop_path(self.attn(self.branch(activated)))
        out: Tensor = residual + shortcut
        return out


class PlainBlock(nn.Module):
    """One unit of a net without shortcuts (section 4.1 of arXiv:1512.03385): 3x3 convolution, norm, activation.

    A stride is a 3x3 max pooling before the convolution, followed by the blur where there is one (arXiv:1904.11486,
    equation 3). Attention stands after the activation, as SE does in such nets (arXiv:1709.01507, section 3.3).
    """

    def __init__(
        self,
        in_chs: int,
        out_chs: int,
        stride: int,
        act_layer: Layer,
        attn_layer: Layer | None,
        aa_layer: Layer | None,
    ) -> None:
        super().__init__()
        self.pool = nn.Sequential()
        if stride > 1:
            self.pool.append(nn.MaxPool2d(3, 1 if aa_layer is not None else stride, padding=1))
            if aa_layer is not None:
                self.pool.append(aa_layer(channels=in_chs, stride=stride))
        self.branch = nn.Sequential(conv(in_chs, out_chs, 3), nn.BatchNorm2d(out_chs), act_layer(inplace=True))
        self.attn = attn_layer(out_chs) if attn_layer is not None else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.attn(self.branch(self.pool(x)))
        return out


def branch_convs(
    block: str, in_chs: int, width: int, inner: int, *, stride: int, groups: int, blur: bool
) -> list[nn.Conv2d]:
    """The convolutions of a residual branch: two 3x3 (basic), or 1x1, 3x3, 1x1 (bottleneck)."""
    conv_stride = 1 if blur else stride
    if block == "basic":
        return [conv(in_chs, width, 3, conv_stride), conv(width, width, 3)]
    return [conv(in_chs, inner, 1), conv(inner, inner, 3, conv_stride, groups), conv(inner, width * EXPANSION, 1)]


class GeM(nn.Module):
    """Generalised mean pooling with a learned exponent p (arXiv:1711.02512, equation 3).

    (batch, channels, height, width) -> (batch, channels). p = 1 is the average, p -> infinity the maximum.
    """

    pool_type = "gem"  # what timm's ClassifierHead asks of its pooling

    def __init__(self, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor([p]))
        self.eps = eps

    def feat_mult(self) -> int:
        """Output channels per input channel."""
        return 1

    def forward(self, x: Tensor) -> Tensor:
        powers = x.float().clamp(min=self.eps).pow(self.p)  # a cube leaves fp16's range
        mean = powers.mean((2, 3)).clamp(min=torch.finfo(torch.float32).tiny)  # a root of 0 has no finite gradient
        return mean.pow(1.0 / self.p).to(x.dtype)
