"""Tests of the models that are listed from source code alone."""

import json
from pathlib import Path

import pytest

from benchmarks.sandbox.python import listing
from benchmarks.sandbox.python.listing import list_models

MAX_PATH_LENGTH = 4096  # characters, on Linux
NETS = """
import torch
from torch import nn
from .layers import Attention

raise RuntimeError("the file is not run")

def conv3x3(inputs, outputs):
    return nn.Conv2d(inputs, outputs, 3)

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv, self.attention = conv3x3(width, width), Attention(width)

class Net(nn.Module):
    def __init__(self, depth, num_classes=10):
        super().__init__()
        self.block = Block(depth)

class Wide(Net):
    def forward(self, x): return x

class FocalLoss(nn.Module):
    def forward(self, logits, target): return 0

class Distiller(nn.Module):
    def forward(self, student, teacher, target): return 0

class Images: pass

def make_net(depth):
    net = Net(depth)
    return net

def net20(**kwargs): return make_net(20, **kwargs)

def tiny(): return nn.Sequential(nn.Flatten(), nn.Linear(3, 10))

def _hidden(): return net20()

def main(): return net20()

def load(path): return torch.load(path)
"""
LAYERS = """
import torch.nn as nn
from torchvision.models import resnet18, ResNet

class Attention(nn.Module):
    def __init__(self, width): super().__init__()

class Other(ResNet): pass

def pretrained(num_classes=10): return resnet18(num_classes=num_classes)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "layers.py").write_text(LAYERS)
    return tmp_path


def test_networks_and_factories_are_listed(folder: Path) -> None:
    assert list_models(folder).models == [
        "layers.py:Other",
        "layers.py:pretrained",
        "nets.py:Wide",
        "nets.py:net20",
        "nets.py:tiny",
    ]


def test_class_with_required_arguments_is_listed_unless_it_is_a_layer(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(NETS.partition("class Wide")[0])
    assert list_models(tmp_path).models == ["a.py:Net"]


@pytest.mark.parametrize(
    ("pattern", "expected"), [("net*", ["nets.py:net20"]), ("*i*", ["nets.py:Wide", "nets.py:tiny"])]
)
def test_names_of_a_file_match_a_pattern(pattern: str, expected: list[str], folder: Path) -> None:
    assert list_models(folder / "nets.py", pattern).models == expected


def test_functions_that_return_a_timm_model_are_listed(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(
        "import timm\nfrom timm import create_model\n"
        "def first(): return timm.create_model('resnet18', num_classes=100)\n"
        "def second(num_classes=10):\n    net = create_model('resnet18')\n    return net\n"
        "def third(): return factory.create_model('resnet18')\n"
    )
    (tmp_path / "own.py").write_text("def create_model(name): ...\ndef fourth(): return create_model('x')\n")
    assert list_models(tmp_path).models == ["nets.py:first", "nets.py:second"]


def test_base_class_of_another_file_is_a_network(tmp_path: Path) -> None:
    (tmp_path / "base.py").write_text("from torch import nn\nclass Base(nn.Module): pass\n")
    (tmp_path / "net.py").write_text("from base import Base\nclass Net(Base): pass\n")
    assert list_models(tmp_path).models == ["base.py:Base", "net.py:Net"]


def test_tests_hidden_folders_and_environments_are_left_out(tmp_path: Path) -> None:
    for name in ("a/net.py", ".git/net.py", "tests/net.py", "env/lib/net.py", "a/test_net.py", "a/.net.py", "setup.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("import torch\nclass Net(torch.nn.Module): pass\n")
    (tmp_path / "env" / "pyvenv.cfg").touch()
    assert list_models(tmp_path).models == ["a/net.py:Net"]


def test_weights_and_invalid_files_are_listed_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import torch\nclass Net(:")
    (tmp_path / "python2.py").write_text("print 'no networks'")
    (tmp_path / "notes.txt").touch()
    (tmp_path / "net.pth").touch()
    (tmp_path / "loop.py").symlink_to("loop.py")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert list_models(tmp_path).models == ["broken.py", "net.pth"]


def test_models_of_notebooks_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MAX_SOURCE_BYTES", 100)  # a notebook may be large, because it contains its outputs
    sources = ("!ls\nfrom torch import nn", *["class Net(nn.Module): pass"] * 2, "net = nn.Linear(3, 10)")
    cells = [{"cell_type": "code", "source": source, "outputs": ["a" * 200]} for source in sources]
    (tmp_path / "net.ipynb").write_text(json.dumps({"cells": cells}))
    (tmp_path / "cut_off.ipynb").write_text('{"cells": [{"cell_type": "code", "source": "import torch')
    (tmp_path / "data.ipynb").write_text(json.dumps({"cells": [{"cell_type": "code", "source": "x = 1"}]}))
    assert list_models(tmp_path).models == ["cut_off.ipynb", "net.ipynb:Net"]


def test_long_lists_are_cut_with_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MAX_MODELS", 2)
    (tmp_path / "net.py").write_text(
        "from torch import nn\n" + "".join(f"class N{i}(nn.Module): pass\n" for i in range(5))
    )
    result = list_models(tmp_path)
    assert result.models == ["net.py:N0", "net.py:N1"]
    assert "first 2 of 5" in result.notes[0]


def test_search_of_a_huge_folder_ends_with_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MAX_ENTRIES", 3)
    for number in range(9):
        (tmp_path / f"{number}").mkdir()
    assert "more than 3 entries" in list_models(tmp_path).notes[0]


def test_folder_whose_content_cannot_be_read_does_not_stop_the_list(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("import torch\nclass Net(torch.nn.Module): pass")
    folder = tmp_path
    while len(str(folder)) < MAX_PATH_LENGTH - 5:  # a file in the last folder has too long a path
        folder /= "x" * min(200, MAX_PATH_LENGTH - 2 - len(str(folder)))
        folder.mkdir()
    assert list_models(tmp_path).models == ["net.py:Net"]
