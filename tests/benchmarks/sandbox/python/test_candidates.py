"""Tests of the choice among several models of a file. The files are executed here, since the tests wrote them."""

import ast
from types import ModuleType

import pytest

from arch.errors import InputError
from benchmarks.sandbox.python.candidates import choose

HEAD = """
import torch
from torch import nn
import torch.nn as layers

class Block(nn.Module):
    def __init__(self, width): super().__init__()

class Net(nn.Module):
    def __init__(self, block, num_classes=10):
        super().__init__()
        self.block, self.fc = block(4), nn.Linear(4, num_classes)

class FocalLoss(nn.Module):
    def __init__(self): super().__init__()

def main(): raise RuntimeError("it was called")
def train(net): return net
def accuracy(output, target): return output.eq(target)
"""


def chosen(source: str) -> str:
    module = ModuleType("net")
    exec(compile(source, "net.py", "exec"), vars(module))
    return choose(module, ast.parse(source), "net.py")[0]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (HEAD + "def net18(): return Net(Block)", "net18"),
        (HEAD + "def net18(num_classes): return Net(Block, num_classes)", "net18"),
        (HEAD + "def net18(pretrained=False, **kwargs):\n    model = Net(Block, **kwargs)\n    return model", "net18"),
        (HEAD + "def _make(b): return Net(b)\ndef net18(): return _make(Block)", "net18"),
        (HEAD + "def net18(): return layers.Sequential(Net(Block))", "net18"),
        (HEAD + "class Large(Net):\n    def __init__(self): super().__init__(Block)", "Large"),
        (HEAD + "net = Net(Block)\ncriterion = nn.CrossEntropyLoss()\nact = nn.ReLU()", "net"),
        (HEAD + "class Flat(nn.Flatten): pass\nnet = nn.Sequential(Flat(), nn.Linear(4, 4))", "net"),
        (HEAD + "class Wrapper(nn.Module):\n    def __init__(self): self.net = Net(Block)\nready = Wrapper", "Wrapper"),
        ("from torch import nn\nclass Net(nn.Flatten): pass\ndef a(): return Net()", "Net"),
        (
            HEAD + "def pair(): return nn.Sequential(nn.ReLU())\ndef net18(): return Net(Block)\n"
            "class Stage(nn.Module):\n    def __init__(self, depth): self.layers = pair()",
            "net18",
        ),
        (
            "from torch import nn\nclass Net(nn.Linear):\n    def __init__(self): super().__init__(4, 4)\nnet = Net()",
            "Net",
        ),
        ("def build(): return make()", "build"),
        (
            "from torch import nn\nclass Net(nn.Flatten): pass\nclass Smooth(nn.Module):\n"
            "    def forward(self, logits, targets): return logits",
            "Net",
        ),
        ("import torch\nclass Net(torch.nn.Module): pass\nclass MyCriterion(torch.nn.Module): pass", "Net"),
    ],
)
def test_one_model_is_chosen(source: str, expected: str) -> None:
    assert chosen(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (HEAD + "def net11(): return Net(Block)\ndef net13(): return Net(Block)", r"2 models.*\(net11, net13\)"),
        (
            HEAD + "class Other(nn.Module): pass\ndef a(): return Net(Block)\ndef b(): return Net(Block)",
            r"3 models.*\(a, b, Other\)",
        ),
        (
            "from torch import nn\nclass Net(nn.Flatten): pass\ndef a(): return Net()\ndef b(): return Net()",
            r"2 models.*\(a, b\)",
        ),
        (
            "from torch import nn\ndef pair(width): return nn.Sequential(nn.ReLU())\n"
            "class Large(nn.Module):\n    def __init__(self, depth): self.layers = pair(depth)",
            r"net\.py:Large needs the argument depth: add",
        ),
        (HEAD, r"net\.py:Net needs the argument block.*net\.py:'Net\(block=\.\.\.\)'"),
        (HEAD + "def build(cfg): return Net(cfg.block)", r"net\.py:build needs the argument cfg"),
        ("def main(): return 1\ndef train(epoch): pass\nclass Meter: pass", "defines no model"),
        ("def main(): return make()", "defines no model"),
        ("def accuracy(output, target): return 1", "defines no model"),
    ],
)
def test_only_models_that_can_be_built_are_listed(source: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        chosen(source)
