"""The networks of NAS-Bench-201 (Dong and Yang 2020, arXiv:2001.00326)."""

from collections.abc import Sequence
from itertools import islice

import torch
from torch import Tensor, nn

CHANNELS = (16, 32, 64)
CELLS_PER_STAGE = 5


def operation(name: str, channels: int) -> nn.Module:
    """Return an operation of a cell."""
    if name.startswith("nor_conv"):
        size = int(name[-1])
        convolution = nn.Conv2d(channels, channels, size, padding=size // 2, bias=False)
        return nn.Sequential(nn.ReLU(), convolution, nn.BatchNorm2d(channels))
    return nn.AvgPool2d(3, 1, 1, count_include_pad=False) if name == "avg_pool_3x3" else nn.Identity()


class Cell(nn.Module):
    """Four nodes, each the sum of operations on the nodes before.

    Args:
        choices: The operations of the six edges, such as `nor_conv_3x3~0` for the one from node 0.
        channels: Input and output channels.
    """

    def __init__(self, choices: Sequence[str], channels: int) -> None:
        super().__init__()
        names = iter(choice.partition("~")[0] for choice in choices)
        self.nodes = nn.ModuleList()
        for number in (1, 2, 3):
            edges = enumerate(islice(names, number))
            modules = {str(source): operation(name, channels) for source, name in edges if name != "none"}
            self.nodes.append(nn.ModuleDict(modules))

    def forward(self, x: Tensor) -> Tensor:
        """Return the last node."""
        nodes = [x]
        for edges in self.nodes:
            assert isinstance(edges, nn.ModuleDict)
            inputs = [module(nodes[int(source)]) for source, module in edges.items()]
            nodes.append(torch.stack(inputs).sum(0) if inputs else torch.zeros_like(x))
        return nodes[-1]


class Reduction(nn.Module):
    """The residual block between two stages, which halves the resolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(in_channels, out_channels, 3, 2, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(in_channels, out_channels, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of the branch and the shortcut."""
        return torch.as_tensor(self.shortcut(x) + self.branch(x))


def build(choices: Sequence[str], num_classes: int = 10) -> nn.Sequential:
    """Build a network.

    Args:
        choices: The operations of the six edges of its cell.
        num_classes: The number of classes.
    """
    layers: list[nn.Module] = [nn.Conv2d(3, CHANNELS[0], 3, padding=1, bias=False), nn.BatchNorm2d(CHANNELS[0])]
    for stage, channels in enumerate(CHANNELS):
        if stage:
            layers.append(Reduction(CHANNELS[stage - 1], channels))
        layers += [Cell(choices, channels) for _ in range(CELLS_PER_STAGE)]
    layers += [nn.BatchNorm2d(CHANNELS[-1]), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(CHANNELS[-1], num_classes))
