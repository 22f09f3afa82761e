import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from arch.errors import InputError
from benchmarks.budget.check import check
from benchmarks.budget.request import CheckRequest, FileOptions
from benchmarks.definition.benchmark import Benchmark
from benchmarks.sandbox.python.cuda_on_cpu import CUDA_ON_CPU
from benchmarks.sandbox.python.python_file import find_in_file

ONE = """
from torch import nn
from torch.nn import Linear

class Net(nn.Sequential):
    def __init__(self, num_classes, in_chans):
        super().__init__(nn.Conv2d(in_chans, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), Linear(4, num_classes))
"""
MORE = (
    ONE
    + """
class Other(Net):
    pass

def build(num_classes):
    return Net(num_classes, 1)

def plain():
    return Net(10, 1)

def wrong():
    return "a net"

ready = Net(10, 1)
width = 4
"""
)


def file(folder: Path, content: str) -> Path:
    path = folder / "net.py"
    path.write_text(content)
    return path


def built(path: Path, name: str, benchmark: Benchmark) -> nn.Module:
    return find_in_file(path, name, benchmark.data).builder()


def test_only_class_needs_no_name(tmp_path: Path, tiny: Benchmark) -> None:
    model = find_in_file(file(tmp_path, ONE), "", tiny.data)
    assert model.description == "net.py:Net (file)"
    assert model.builder()(torch.zeros(1, 1, 8, 8)).shape == (1, 10)


def test_only_factory_needs_no_name(tmp_path: Path, tiny: Benchmark) -> None:
    path = file(tmp_path, "from torch import nn\ndef build(): return nn.Flatten()\nwidth = 4\n")
    assert find_in_file(path, "", tiny.data).description == "net.py:build (file)"


@pytest.mark.parametrize("name", ["Net", "Other", "build", "plain", "ready"])
def test_name_selects_a_model(tmp_path: Path, tiny: Benchmark, name: str) -> None:
    model = built(file(tmp_path, MORE), name, tiny)
    assert model(torch.zeros(1, 1, 8, 8)).shape == (1, 10)


def test_module_is_copied_for_each_build(tmp_path: Path, tiny: Benchmark) -> None:
    model = find_in_file(file(tmp_path, MORE), "ready", tiny.data)
    first, second = model.builder(), model.builder()
    assert first is not second
    assert next(first.parameters()).device.type == "cpu"


def test_module_that_cannot_be_copied_is_created_for_each_build(tmp_path: Path, tiny: Benchmark) -> None:
    pruned = (
        "\nfrom torch.nn.utils import prune\nprune.identity(ready[0], 'weight')\nready[0].weight = ready[0].weight * 1"
    )
    model = find_in_file(file(tmp_path, MORE + pruned), "ready", tiny.data)
    first, second = model.builder(), model.builder()
    assert first is not second
    assert check(CheckRequest("net", tiny, "cpu"), model.builder).cost.params == (4 * 9 + 4) + (4 * 10 + 10)


def test_import_allocates_no_memory(tmp_path: Path, tiny: Benchmark) -> None:
    huge = "from torch import nn\nready = nn.Sequential(nn.Flatten(), nn.Linear(64, 10**11, bias=False))\n"
    model = find_in_file(file(tmp_path, huge), "", tiny.data)
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in model.builder().parameters()) == 64 * 10**11


def test_file_that_reads_values_is_imported_on_the_cpu(tmp_path: Path, tiny: Benchmark) -> None:
    content = ONE + "\nimport torch\nassert float(torch.ones(2).sum()) == 2\n"  # meta tensors have no values
    assert built(file(tmp_path, content), "", tiny)(torch.zeros(1, 1, 8, 8)).shape == (1, 10)


FACTORIES = """
from torch import nn

class Net(nn.Module):
    def __init__(self, width, CLASSES=7, in_chans=3):
        super().__init__()
        self.first, self.last = nn.Conv2d(in_chans, width, 3), nn.Linear(width, CLASSES)

    def forward(self, x):
        return self.last(self.first(x).mean((2, 3)))

def build(**kwargs):
    return Net(4, in_chans=1, **kwargs)
"""
CLASS_COUNTS = ["num_classes", "n_classes", "class_num", "num_class", "n_class", "nclass", "nb_classes"]


def chosen(path: Path, name: str, benchmark: Benchmark, **options: Any) -> tuple[Any, str]:
    """Return the model and everything that was chosen, as one text."""
    model = find_in_file(path, name, benchmark.data, FileOptions(**options))
    return model.builder(), "; ".join(model.choices())


@pytest.mark.parametrize("parameter", [*CLASS_COUNTS, "classes", "NumClasses"])
def test_class_count_has_many_names(parameter: str, tmp_path: Path, tiny: Benchmark) -> None:
    path = file(tmp_path, FACTORIES.replace("CLASSES", parameter))
    model, choices = chosen(path, "Net(width=4)", tiny)
    assert model.last.out_features == 10
    assert choices == f"Net(width=4, {parameter}=10, in_chans=1)"


@pytest.mark.parametrize("parameter", CLASS_COUNTS)
def test_factory_with_kwargs_receives_the_class_count(parameter: str, tmp_path: Path, tiny: Benchmark) -> None:
    path = file(tmp_path, FACTORIES.replace("CLASSES", parameter))
    model, choices = chosen(path, "build", tiny)
    assert model.last.out_features == 10
    assert choices == f"build({parameter}=10)"


def test_keyword_that_is_swallowed_is_not_taken(tmp_path: Path, tiny: Benchmark) -> None:
    swallow = "\ndef swallow(**kwargs): return Net(4, kwargs.get('class_num', 7), 1)\n"
    model, choices = chosen(file(tmp_path, FACTORIES + swallow), "swallow", tiny)
    assert model.last.out_features == 10
    assert choices == "swallow(class_num=10)"


def test_width_of_a_layer_is_no_channel_count(tmp_path: Path, tiny: Benchmark) -> None:
    net = FACTORIES.replace("width, CLASSES=7, in_chans=3", "in_channels=16, num_classes=7")
    net = net.replace("(in_chans, width", "(1, in_channels").replace("(width, CLASSES", "(in_channels, num_classes")
    model, choices = chosen(file(tmp_path, net), "Net", tiny)
    assert model.first.out_channels == 16
    assert choices == "Net(num_classes=10)"


@pytest.mark.parametrize("parameter", ["input_channel", "in_c", "channels=3", "in_dim=3"])
def test_channel_count_has_many_names(parameter: str, tmp_path: Path, tiny: Benchmark) -> None:
    name = parameter.partition("=")[0]
    net = FACTORIES.replace("width, CLASSES=7, in_chans=3", f"{parameter}, num_classes=7")
    net = net.replace("(in_chans, width", f"({name}, 4").replace("(width, CLASSES", "(4, num_classes")
    assert chosen(file(tmp_path, net), "Net", tiny)[0].first.in_channels == 1


@pytest.mark.parametrize(
    ("default", "expected"), [("", "False"), ("=True", "False"), ("='imagenet'", "None"), ("=False", ""), ("=None", "")]
)
def test_pretrained_weights_are_not_downloaded(default: str, expected: str, tmp_path: Path, tiny: Benchmark) -> None:
    code = f"\ndef net(pretrained{default}, n=7):\n    assert not pretrained\n    return Net(4, n, 1)\n"
    _, choices = chosen(file(tmp_path, FACTORIES.replace("CLASSES", "num_classes") + code), "net", tiny)
    assert choices.startswith(f"net(pretrained={expected})" if expected else "net()")


SIZES = """
from torch import nn

class Net(nn.Module):
    def __init__(self, img_size=48, pixels=2304):
        super().__init__()
        self.fc = nn.Linear(pixels, 10)

    def forward(self, x):
        return self.fc(x.flatten(1))

class Later(nn.Module):
    def __init__(self, last=None):
        super().__init__()
        self.last = last

    def forward(self, x):
        return self.last(x.flatten(1))

def later():
    model = Later()
    model.last = nn.Linear(64, 10)
    return model

def any_call(**kwargs):
    return Net2(**kwargs)

class Net2(Net):
    def __init__(self, depth, *, width):
        super().__init__()

def fails(**kwargs):
    return Inner()

class Inner(Net):
    def __init__(self):
        super().__init__(pixels=64)
        self.other = Net2(3)

def loads(pretrained=True):
    return Net(pixels={True: 64}[pretrained])

def reads(**kwargs):
    return Net(kwargs["img_size"] * kwargs["depth"], kwargs["width"])

class Sized(Net):
    @classmethod
    def from_size(cls, px, num_classes=10): return cls(pixels=px * px)

    @staticmethod
    def twice(x): return 2 * x

    def __init__(self, size=None, pixels=0):
        super().__init__(pixels=pixels + len(size or "")) if pixels else size + 1

def checked(**kwargs):
    model = Net(**kwargs, pixels=64)
    assert kwargs.get("img_size") == 8, "wrong size"
    return model
"""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Net", r"--image-size 48"),
        ("Net(pixels=784)", r"--image-size 28"),
        ("Net(img_size=17, pixels=289)", r"--image-size 17"),
        ("Later", r"later, which runs"),
        ("loads", r"pretrained turned off"),
        ("Net(pixels=17)", r"28 to 384 px were tried without success"),
        ("Sized", r"net\.py:'Sized\.from_size\(px=\.\.\.\)'"),
    ],
)
def test_what_makes_a_model_run_is_found(name: str, expected: str, tmp_path: Path, tiny: Benchmark) -> None:
    with pytest.raises((RuntimeError, TypeError, KeyError)) as raised:
        find_in_file(file(tmp_path, SIZES), name, tiny.data)
    assert re.search(expected, " ".join(raised.value.__notes__))


def test_class_method_builds_the_model(tmp_path: Path, tiny: Benchmark) -> None:
    path = file(tmp_path, SIZES)
    assert chosen(path, "Sized.from_size(8)", tiny)[1] == "Sized.from_size(8, num_classes=10)"
    for name in ("Sized.forward", "nn.Linear", "Sized.no", "re.compile"):
        with pytest.raises(InputError):
            chosen(path, name, tiny)


@pytest.mark.parametrize(("name", "missing"), [("any_call", "depth"), ("reads", "depth, width")])
def test_arguments_that_only_the_code_reveals_are_named(
    name: str, missing: str, tmp_path: Path, tiny: Benchmark
) -> None:
    with pytest.raises(InputError, match=rf"{name} needs the arguments? {missing}.*'{name}\(depth=\.\.\."):
        find_in_file(file(tmp_path, SIZES), name, tiny.data)


def test_arguments_of_a_layer_are_not_those_of_the_factory(tmp_path: Path, tiny: Benchmark) -> None:
    with pytest.raises(TypeError, match="missing 1 required"):
        find_in_file(file(tmp_path, SIZES), "fails", tiny.data)


def test_image_size_is_passed_to_kwargs_if_nothing_else_runs(tmp_path: Path, tiny: Benchmark) -> None:
    assert chosen(file(tmp_path, SIZES), "checked", tiny)[1] == "checked(img_size=8)"


def test_image_size_of_the_user_that_differs_is_mentioned(tmp_path: Path, tiny: Benchmark) -> None:
    path = file(tmp_path, SIZES)
    assert "--image-size 16" in chosen(path, "Net(img_size=16, pixels=64)", tiny)[1]
    assert "--image-size" not in chosen(path, "Net(img_size=8, pixels=64)", tiny)[1]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("Net(4)", ()), ("Net(width=4)", ()), ("Net", ("width=4",)), ("Net(width=four)", ()), ("Net", ("width=four",))],
)
def test_arguments_of_the_user_are_passed(
    name: str, arguments: tuple[str, ...], tmp_path: Path, tiny: Benchmark
) -> None:
    path = file(tmp_path, FACTORIES.replace("CLASSES", "num_classes") + "\nfour = 4\n")
    assert chosen(path, name, tiny, arguments=arguments)[0].first.out_channels == 4


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        (
            "Net",
            (),
            r"net\.py:Net needs the argument width.*\(build, ready\).*'Net\(width=\.\.\.\)' or --arg width=",
        ),
        ("Net(4, wdith=4)", (), "'wdith': did you mean 'width'"),
        ("Net(4)", ("width=4",), "width is given twice"),
        ("Net(1, 2, 3, 4)", (), "takes 3 arguments"),
        ("Net(width=fuor)", (), "'fuor' is not a name of net.py.*if it is text.*'four'"),
        ("Net(width=exec)", (), "'exec'"),
        ("ready(4)", (), "takes no arguments"),
    ],
)
def test_wrong_arguments_are_invalid(
    name: str, arguments: tuple[str, ...], expected: str, tmp_path: Path, tiny: Benchmark
) -> None:
    names = "\ndef four(): pass\nready = Net(4)\n"
    path = file(tmp_path, FACTORIES.replace("CLASSES", "num_classes") + names)
    with pytest.raises(InputError, match=expected):
        chosen(path, name, tiny, arguments=arguments)


OUTPUTS = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.fc, self.aux = nn.Conv2d(1, 4, 3), nn.Linear(4, 7), nn.Linear(4, 7)

    def forward(self, x):
        h = self.first(x).mean((2, 3))
        return self.fc(h), self.aux(h)

class Plain(Net):
    def forward(self, x): return super().forward(x)[0]

class Twice(Plain):
    def forward(self, x): return super().forward(x) + super().forward(x.flip(2))

class Sized(nn.Module):
    def __init__(self, img_size=16, num_classes=10):
        super().__init__()
        self.fc = nn.Linear(img_size * img_size, num_classes)

    def forward(self, x): return self.fc(x.flatten(1))

class Pooled(nn.Module):
    def __init__(self, img_size=16, num_classes=10):
        super().__init__()
        self.size, self.fc = img_size, nn.Linear(1, num_classes)

    def forward(self, x): return self.fc(x.mean((2, 3)))
"""


@pytest.mark.parametrize(("name", "output"), [("Net", ""), ("Net", "1"), ("Plain", ""), ("Twice", "")])
def test_classifier_is_replaced_and_named(name: str, output: str, tmp_path: Path, tiny: Benchmark) -> None:
    model, choices = chosen(file(tmp_path, OUTPUTS), name, tiny, output=output)
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    layer, other = ("aux", "fc") if output else ("fc", "aux")
    assert (getattr(model, layer).out_features, getattr(model, other).out_features) == (10, 7)
    assert f"the layer {layer} returned 7 classes" in choices
    assert "--classes 7" in choices


def test_model_whose_classifier_cannot_be_replaced_is_explained(tmp_path: Path, tiny: Benchmark) -> None:
    fixed = "\nclass Head(nn.Linear): pass\nclass Fixed(nn.Sequential):\n"
    fixed += "    def __init__(self): super().__init__(nn.Flatten(), Head(64, 7))\n"
    pair = "class Odd(nn.Module):\n    def forward(self, x): return x, {'features': x}\n"
    path = file(tmp_path, OUTPUTS + fixed + pair)
    assert "--classes 7" in chosen(path, "Fixed", tiny)[1]
    assert "a tuple (0 (1, 1, 8, 8), 1.features (1, 1, 8, 8))" in chosen(path, "Odd", tiny)[1]


def test_class_count_of_the_user_is_the_reason_for_a_replacement(tmp_path: Path, tiny: Benchmark) -> None:
    path = file(tmp_path, FACTORIES.replace("CLASSES", "num_classes"))
    model, choices = chosen(path, "Net(4, num_classes=7)", tiny)
    assert model.last.out_features == 10
    assert "num_classes is given" in choices
    assert "no argument" not in choices


def test_classifiers_whose_outputs_are_added_are_replaced_together(tmp_path: Path, tiny: Benchmark) -> None:
    source = """
from torch import nn
class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(64, 7), nn.Linear(64, 7)

    def forward(self, x):
        return self.a(x.flatten(1)) + self.b(x.flatten(1))
"""
    model, choices = chosen(file(tmp_path, source), "Two", tiny)
    assert (model.a.out_features, model.b.out_features) == (10, 10)
    assert "the layers b, a returned 7 classes" in choices


def test_missing_output_is_named(tmp_path: Path, tiny: Benchmark) -> None:
    net = FACTORIES.replace("CLASSES", "num_classes").replace("return self.last", "self.last")
    assert "None" in chosen(file(tmp_path, net), "Net(4)", tiny)[1]


@pytest.mark.parametrize("wrap", ["torch.jit.script", "torch.fx.symbolic_trace", "torch.compile", "nn.DataParallel"])
def test_wrapped_models_are_built(wrap: str, tmp_path: Path, tiny: Benchmark) -> None:
    path = file(tmp_path, f"import torch\n{OUTPUTS}\ndef build(num_classes): return {wrap}(Pooled(8, num_classes))\n")
    assert chosen(path, "build", tiny)[1] == "build(num_classes=10)"


def test_classifier_of_a_gigantic_model_is_not_replaced(tmp_path: Path, tiny: Benchmark) -> None:
    path = file(
        tmp_path, "from torch import nn\ndef build(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 10**10))"
    )
    model = find_in_file(path, "build", tiny.data)
    with torch.device("meta"):
        assert model.builder()(torch.zeros(1, 1, 8, 8)).shape == (1, 10**10)


def test_image_size_is_passed_only_if_it_is_needed(tmp_path: Path, tiny: Benchmark) -> None:
    path = file(tmp_path, OUTPUTS)
    assert chosen(path, "Sized", tiny)[1] == "Sized(num_classes=10, img_size=8)"
    model, choices = chosen(path, "Pooled", tiny)
    assert model.size == 16
    assert choices.startswith("Pooled(num_classes=10); img_size keeps its default")
    model, choices = chosen(path, "Pooled", tiny, image_size=8)
    assert (model.size, choices) == (8, "Pooled(num_classes=10, img_size=8)")


@pytest.mark.skipif(torch.cuda.is_available(), reason="the file would use the GPU")
@pytest.mark.parametrize(
    "code",
    [
        "net = Net(10, 1).cuda()",
        "net = Net(10, 1).to('cuda')",
        "x = torch.zeros(2, device='cuda:0')",
        "x = torch.ones(2).to(torch.device('cuda'))",
        "torch.zeros(1).cuda()\nx = torch.cuda.FloatTensor(2, 3).fill_(0)",
        "torch.zeros(1).cuda()\nx = torch.zeros(1).type('torch.cuda.FloatTensor')",
        "def build(num_classes): return Net(num_classes, 1).cuda()",
    ],
)
def test_gpu_that_does_not_exist_is_the_cpu(code: str, tmp_path: Path, tiny: Benchmark) -> None:
    path = file(tmp_path, f"import torch\n{ONE}\n{code}\n")
    try:
        model, choices = chosen(path, "build" if "build" in code else "Net", tiny)
        assert model(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
    finally:
        CUDA_ON_CPU.stop()
    assert "device='cuda' mean the CPU" in choices


def test_several_models_are_listed(tmp_path: Path, tiny: Benchmark) -> None:
    expected = r"net\.py defines 3 models.* net\.py:NAME \(build, plain, Other\)"
    with pytest.raises(InputError, match=expected):
        find_in_file(file(tmp_path, MORE), "", tiny.data)


def test_file_without_models_is_invalid(tmp_path: Path, tiny: Benchmark) -> None:
    with pytest.raises(InputError, match=r"net\.py defines no model"):
        find_in_file(file(tmp_path, "from torch.nn import Linear\n"), "", tiny.data)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Nett", r"'Nett' in net\.py: did you mean 'Net'\? valid: Net, Other, build, plain, ready, wrong"),
        ("width", r"net\.py:width is neither a torch Module nor"),
        ("wrong", r"net\.py:wrong returned str, not a torch Module"),
    ],
)
def test_name_of_anything_else_is_invalid(tmp_path: Path, tiny: Benchmark, name: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        built(file(tmp_path, MORE), name, tiny)


def test_error_of_the_file_is_raised(tmp_path: Path, tiny: Benchmark) -> None:
    with pytest.raises(RuntimeError, match=r"^not today$"):
        find_in_file(file(tmp_path, "raise RuntimeError('not today')"), "", tiny.data)


def test_file_may_define_a_dataclass(tmp_path: Path, tiny: Benchmark) -> None:
    head = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    path = file(tmp_path, head + ONE + "\n@dataclass\nclass Config:\n    width: int = 4\n")
    assert find_in_file(path, "", tiny.data).description == "net.py:Net (file)"


def test_file_may_import_its_neighbors(tmp_path: Path, tiny: Benchmark) -> None:
    (tmp_path / "neighbor_of_net.py").write_text("classes = 10\n")
    path = file(tmp_path, ONE + "\nfrom neighbor_of_net import classes\ndef build(): return Net(classes, 1)\n")
    assert built(path, "build", tiny)(torch.zeros(1, 1, 8, 8)).shape == (1, 10)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # timm.models.layers is deprecated
def test_layers_of_an_older_timm_are_found(tmp_path: Path, tiny: Benchmark) -> None:
    source = "from timm.models.layers.helpers import to_2tuple\nfrom timm.layers import helpers\n"
    path = file(tmp_path, source + "assert to_2tuple is helpers.to_2tuple\n" + ONE)
    assert isinstance(built(path, "Net", tiny), nn.Sequential)


def test_found_model_is_checked(tmp_path: Path, tiny: Benchmark) -> None:
    model = find_in_file(file(tmp_path, ONE), "", tiny.data)
    verdict = check(CheckRequest(model.description, tiny, "cpu"), model.builder)
    assert verdict.passed
    assert verdict.model == "net.py:Net (file)"
    assert verdict.cost.params == (9 * 4 + 4) + (4 * 10 + 10)
