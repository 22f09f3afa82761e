import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from arch.bases import BASES
from arch.entries import NETWORKS
from arch.errors import InputError
from arch.layers import CUSTOM_LAYERS
from arch.models import build
from arch.parts import PARTS
from arch.plugins import active_plugins, load_plugins, plugin_versions, restore_plugins, unload_plugins
from arch.spec import Architecture, parse
from arch.timm_model import TimmModel
from arch.timm_net import TimmNet

HEAD = """
from dataclasses import replace
import torch
from torch import nn
from arch.registry import *
"""
LAYERS = (
    HEAD
    + """
@attention("gate", "a paper", reduction=4)
class Gate(nn.Module):
    def __init__(self, channels, reduction=4):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels // reduction))
    def forward(self, x):
        return x * (1 + self.weight.sum())

@block("flat")
class Flat(nn.Module):
    expansion = 2
    def __init__(self, in_chs, out_chs, stride, act_layer=nn.ReLU, attn_layer=None):
        super().__init__()
        self.conv = nn.Conv2d(in_chs, out_chs, 3, stride, 1)
        self.act = act_layer(inplace=True)
        self.attn = attn_layer(out_chs) if attn_layer else nn.Identity()
    def forward(self, x):
        return self.attn(self.act(self.conv(x)))

@activation("bent")
class Bent(nn.Module):
    def forward(self, x):
        return x + x.square()

@stem("half")
class Half(nn.Sequential):
    stride = 2
    def __init__(self, in_chans, out_chs):
        super().__init__(nn.Conv2d(in_chans, out_chs, 2, 2))

@pooling("middle")
class Middle(nn.Module):
    def forward(self, x):
        return x.flatten(2).median(2).values

@downsampling("wide_down")
class WideDown(nn.Sequential):
    def __init__(self, in_chs, out_chs, stride):
        super().__init__(nn.Conv2d(in_chs, out_chs, 3, stride, 1))

base("two_stages", Variant((1, 1), (8, 16), (1, 2), stem_width=8))

@part("a paper", Value(2, 1, 4))
def thicker(variant, factor=2):
    '''multiply the widths'''
    return replace(variant, widths=tuple(factor * width for width in variant.widths))
"""
)
NETWORK = (
    HEAD
    + """
@network("my_net")
class MyNet(nn.Module):
    def __init__(self, num_classes, in_chans=3, act_layer=nn.ReLU, attn_layer=None, drop_rate=0.0):
        super().__init__()
        self.conv = nn.Conv2d(in_chans, 8, 3)
        self.act = act_layer()
        self.attn = attn_layer(8) if attn_layer else nn.Identity()
        self.dropout = nn.Dropout(drop_rate)
        self.fc = nn.Linear(8, num_classes)
    def forward(self, x):
        return self.fc(self.dropout(self.attn(self.act(self.conv(x))).mean((2, 3))))
"""
)

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Return a function that writes a file to the current folder. Plugins are unloaded after the test."""
    monkeypatch.chdir(tmp_path)

    def write_file(name: str, text: str) -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    yield write_file
    unload_plugins()


def logits(spec: str, classes: int = 5) -> torch.Tensor:
    """Train mode output of a fresh model for two images."""
    torch.manual_seed(0)
    output: torch.Tensor = build(parse(spec).architecture, classes)(torch.randn(2, 3, 16, 16))
    return output


def gates(architecture: Architecture) -> list[Any]:
    return [module for module in build(architecture, 5).modules() if type(module).__name__ == "Gate"]


@pytest.mark.parametrize(
    ("spec", "layer", "count"),
    [
        ("resnet8+gate", "Gate", 3),
        ("resnet8+preact+se+gate=2", "Gate", 3),
        ("resnet8+block=flat+gate", "Flat", 3),
        ("resnet8+bent", "Bent", 7),
        ("resnet8+stem=half", "Half", 1),
        ("resnet8+middle", "Middle", 1),
        ("resnet8+wide_down", "WideDown", 2),
        ("two_stages+thicker", "BasicBlock", 2),
        ("resnet8+backbone=two_stages+gate", "Gate", 2),
        ("my_net", "MyNet", 1),
        ("my_net+gate+bent+dropout=0.5", "Gate", 1),
        ("my_net/32", "MyNet", 1),
    ],
)
def test_every_kind_of_layer_is_built_where_the_spec_says(write: Write, spec: str, layer: str, count: int) -> None:
    load_plugins([write("layers.py", LAYERS), write("nets.py", NETWORK)])
    assert str(parse(str(parse(spec)))) == str(parse(spec))
    model = build(parse(spec).architecture, 5)
    assert [type(module).__name__ for module in model.modules()].count(layer) == count
    assert logits(spec).shape == (2, 5)
    logits(spec).sum().backward()


def test_values_of_parts_reach_the_layers_of_a_plugin(write: Write) -> None:
    load_plugins([write("layers.py", LAYERS), write("nets.py", NETWORK)])
    sizes = [
        [len(gate.weight) for gate in gates(parse(spec).architecture)]
        for spec in ("two_stages+gate", "two_stages+gate=8")
    ]
    assert sizes == [[2, 4], [1, 2]]
    net = build(parse("my_net+dropout=0.5").architecture, 5)
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout)] == [0.5]


def test_keys_depend_on_the_source_only_where_the_plugin_is_used(write: Write) -> None:
    file = write("layers.py", LAYERS)
    specs = ["resnet8+se", "resnet8+gate", "resnet8+block=flat", "two_stages", "resnet8+bent+wide_down"]
    load_plugins([file])
    before = [parse(spec).architecture.key() for spec in specs]
    version = next(iter(plugin_versions(parse("resnet8+gate").architecture).values()))
    load_plugins([file])
    assert [parse(spec).architecture.key() for spec in specs] == before
    write("layers.py", LAYERS + "\n# a comment\n")
    load_plugins([file])
    after = [parse(spec).architecture.key() for spec in specs]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, False, True, False]
    assert plugin_versions(parse("resnet8+gate").architecture) != {"layers.py": version}
    assert plugin_versions(parse("resnet8+se").architecture) == {}


def test_the_source_that_was_read_is_restored_in_a_worker_even_if_the_file_changes(write: Write) -> None:
    write("beside.py", "VALUE = 1\n")
    load_plugins([write("nets.py", "import beside\n" + NETWORK)])
    plugins, expected = active_plugins(), logits("my_net")
    key = parse("my_net").architecture.key()
    unload_plugins()
    assert "my_net" not in NETWORKS
    write("nets.py", "raise RuntimeError")
    write("beside.py", "raise RuntimeError")
    restore_plugins(plugins)
    assert parse("my_net").architecture.key() == key
    assert torch.equal(logits("my_net"), expected)
    assert sys.modules["beside"].VALUE == 1


def test_modules_beside_a_plugin_are_part_of_its_version(write: Write) -> None:
    write("beside.py", "VALUE = 1\n")
    write("package/__init__.py", "from package.inner import NAME\n")
    write("package/inner.py", "NAME = 'x'\n")
    file = write("nets.py", "import beside, package\n" + NETWORK)
    keys = set()
    for name, text in (("beside.py", "VALUE = 1\n"), ("beside.py", "VALUE = 2\n"), ("package/inner.py", "NAME = 'y'")):
        write(name, text)
        load_plugins([file])
        keys.add(parse("my_net").architecture.key())
    assert len(keys) == 3
    [plugin] = active_plugins()
    assert set(plugin.sources) == {"nets", "beside", "package", "package.inner"}


def test_plugins_may_share_a_module(write: Write) -> None:
    write("beside.py", "VALUE = 1\n")
    files = [write("nets.py", "import beside\n" + NETWORK), write("layers.py", "import beside\n" + LAYERS)]
    load_plugins(files)
    before = [parse(spec).architecture.key() for spec in ("my_net", "resnet8+gate")]
    write("beside.py", "VALUE = 2\n")
    load_plugins(files[:1])
    after = [parse(spec).architecture.key() for spec in ("my_net", "resnet8+gate")]
    assert not set(before) & set(after)
    plugins = active_plugins()
    unload_plugins()
    restore_plugins(plugins)
    assert [parse(spec).architecture.key() for spec in ("my_net", "resnet8+gate")] == after
    Path("layers.py").unlink()
    load_plugins()
    assert "gate" not in PARTS
    assert "my_net" in NETWORKS


def test_two_plugins_with_the_same_name_are_refused(write: Write) -> None:
    load_plugins([write("a/nets.py", NETWORK)])
    with pytest.raises(InputError, match="same name: rename one"):
        load_plugins([write("b/nets.py", NETWORK.replace("my_net", "other_net"))])
    assert "my_net" in NETWORKS
    assert logits("my_net").shape == (2, 5)


def test_a_module_that_is_imported_later_belongs_to_the_source(write: Write) -> None:
    write("later.py", "CHANNELS = 7\n")
    network = NETWORK.replace("in_chans, 8, 3", "in_chans, size(), 3").replace("Linear(8", "Linear(7")
    load_plugins([write("nets.py", network + "\ndef size():\n    from later import CHANNELS\n    return CHANNELS\n")])
    plugins = active_plugins()
    unload_plugins()
    Path("later.py").unlink()
    restore_plugins(plugins)
    assert logits("my_net").shape == (2, 5)


def test_a_plugin_that_was_imported_before_is_registered(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write("nets.py", NETWORK)
    monkeypatch.syspath_prepend(str(file.parent.resolve()))
    importlib.import_module("nets")
    load_plugins([file])
    assert logits("my_net").shape == (2, 5)


@pytest.mark.parametrize("on_path", [False, True])
def test_a_package_without_init_belongs_to_the_source(
    on_path: bool, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    if on_path:
        monkeypatch.syspath_prepend(str(Path.cwd()))
    keys = []
    for size in (7, 8):
        write("lib/sizes.py", f"SIZE = {size}\n")
        load_plugins([write("nets.py", "from lib.sizes import SIZE\n" + NETWORK)])
        keys.append(parse("my_net").architecture.key())
        assert size == sys.modules["lib.sizes"].SIZE
    assert keys[0] != keys[1]
    plugins = active_plugins()
    unload_plugins()
    Path("lib/sizes.py").unlink()
    restore_plugins(plugins)
    assert parse("my_net").architecture.key() == keys[1]


@pytest.mark.parametrize("code", ["import importlib\nimportlib.import_module('elsewhere')\n", "import elsewhere\n"])
def test_modules_that_are_not_installed_are_part_of_the_version(
    code: str, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path / "on_path"))
    keys = []
    for size in (7, 8):
        write("on_path/elsewhere.py", f"SIZE = {size}\n")
        load_plugins([write("nets.py", code + NETWORK)])
        keys.append(parse("my_net").architecture.key())
        unload_plugins()
        del sys.modules["elsewhere"]
    assert keys[0] != keys[1]


def test_modules_without_a_file_are_ignored(write: Write) -> None:
    code = """
import sys, types
for name, file in (("relative", "_classes.py"), ("missing", "/nowhere/x.py")):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__file__ = file
"""
    load_plugins([write("nets.py", code + NETWORK)])
    assert parse("my_net").architecture.key()
    for name in ("relative", "missing"):
        del sys.modules[name]


def test_names_of_modules_are_part_of_the_version(write: Write) -> None:
    write("one.py", "VALUE = 1\n")
    code = "try:\n    import one\nexcept ImportError:\n    import two\n"
    load_plugins([write("nets.py", code + NETWORK)])
    key = parse("my_net").architecture.key()
    Path("one.py").rename("two.py")
    load_plugins()
    assert parse("my_net").architecture.key() != key


def test_the_place_of_a_file_is_not_part_of_an_architecture(write: Write) -> None:
    write("folder/nets.py", NETWORK.replace("@network", "# @network"))
    write("folder/layers.py", LAYERS)
    places = ("folder/", "./folder/", f"{Path.cwd()}/folder/")
    for text in ("{}nets.py:MyNet", "resnet8+{}layers.py:Gate", "resnet8+block={}layers.py:Flat"):
        specs = [text.format(place) for place in places]
        load_plugins(plan=" ".join(specs))
        assert len({parse(spec).architecture.key() for spec in specs}) == 1
        assert all(build(parse(spec).architecture, 5) for spec in specs)


def test_a_plugin_knows_its_file_and_prints_to_standard_error(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    load_plugins([write("nets.py", "print('loading', __file__)\n" + NETWORK)])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"loading {Path('nets.py').resolve()}\n"


def test_files_beside_a_plugin_hide_no_other_module(write: Write) -> None:
    write("random.py", "raise RuntimeError")
    write("yaml.py", "raise RuntimeError")
    write("arch.py", "raise RuntimeError")
    load_plugins([write("nets.py", "import random, yaml\nrandom.random, yaml.safe_load\n" + NETWORK)])
    assert parse("my_net").architecture.key()


def test_packages_of_this_project_never_belong_to_a_plugin(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("arch/__init__.py", "raise RuntimeError")  # as in a clone of this project, whose root is on the path
    monkeypatch.syspath_prepend(Path.cwd())
    load_plugins([write("nets.py", NETWORK)])
    assert logits("my_net").shape == (2, 5)
    [plugin] = active_plugins()
    assert set(plugin.sources) == {"nets"}


def test_a_plugin_with_the_name_of_another_module_can_be_loaded(write: Write) -> None:
    load_plugins([write("random.py", NETWORK)])
    assert logits("my_net").shape == (2, 5)
    assert sys.modules["random"].__file__ != str(Path("random.py").resolve())


@pytest.mark.parametrize(
    ("spec", "expected"),
    [("nets.py:MyNet", "MyNet"), ("resnet8+layers.py:Gate", "Gate"), ("resnet8+se+block=layers.py:Flat", "Flat"),
     ("resnet8+stem=layers.py:Half", "Half"), ("resnet8+layers.py:Bent", "Bent"), ("nets.py:MyNet+silu", "SiLU"),
     ("resnet8+layers.py:thicker", "BasicBlock"), ("nets.py:MyNet/32", "InputAdapter"),
     ("resnet8+./layers.py:Gate", "Gate")],
)  # fmt: skip
def test_a_plan_can_name_a_class_of_a_file(write: Write, spec: str, expected: str) -> None:
    write("layers.py", LAYERS.replace("@part", "# @part"))
    write("nets.py", NETWORK.replace("@network", "# @network"))
    load_plugins(plan=f"compare: resnet8, {spec}")
    assert str(parse(spec)) == spec
    assert expected in {type(module).__name__ for module in build(parse(spec).architecture, 5).modules()}
    plugins = active_plugins()
    key = parse(spec).architecture.key()
    unload_plugins()
    restore_plugins(plugins)
    assert parse(spec).architecture.key() == key


def test_a_path_may_contain_a_hyphen_although_it_also_removes_parts(write: Write) -> None:
    write("my-dir/se-layers.py", LAYERS)
    write("layers.py", LAYERS.replace("gate", "other").partition("@block")[0])
    specs = ["resnet8+my-dir/se-layers.py:Gate", "resnet8+se+block=my-dir/se-layers.py:Flat", "my-dir/nets.py:MyNet",
             "resnet8+layers.py:Gate+se-layers.py:Gate",
             "resnet8+my-dir/se-layers.py:Gate-my-dir/se-layers.py:Gate+eca"]  # fmt: skip
    write("my-dir/nets.py", NETWORK)
    for spec in specs:
        load_plugins(plan=spec)
        assert str(parse(spec)) == spec
        assert build(parse(spec).architecture, 5)
    assert parse(specs[3]).architecture == parse("resnet8+se").architecture
    assert parse(specs[4]).architecture == parse("resnet8+eca").architecture


def test_a_model_that_timm_has_registered_is_a_network(write: Write) -> None:
    write(
        "style.py",
        "from timm.models import register_model\nfrom torch import nn\n\n@register_model\n"
        "def of_timms_style(pretrained=False, num_classes=10, in_chans=3, **kwargs):\n"
        "    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_chans, num_classes))\n",
    )
    load_plugins(["style.py"])
    architecture = parse("of_timms_style").architecture
    assert isinstance(architecture, TimmModel)
    assert architecture.plugin
    assert logits("of_timms_style", 7).shape == (2, 7)


def test_a_networks_classifier_can_be_replaced_as_in_timm(write: Write) -> None:
    load_plugins([write("nets.py", NETWORK)])
    net = build(parse("my_net").architecture, 5)
    assert isinstance(net, TimmNet)
    assert isinstance(net.get_classifier(), nn.Linear)
    net.reset_classifier(9)
    assert net.num_classes == 9
    assert net(torch.zeros(1, 3, 8, 8)).shape == (1, 9)


def test_unloading_leaves_the_registries_as_they_were(write: Write) -> None:
    before = dict(PARTS), dict(BASES), dict(NETWORKS), dict(CUSTOM_LAYERS)
    load_plugins([write("layers.py", LAYERS), write("nets.py", NETWORK)], "resnet8+layers.py:Gate")
    assert dict(PARTS) != before[0]
    unload_plugins()
    assert (dict(PARTS), dict(BASES), dict(NETWORKS), dict(CUSTOM_LAYERS)) == before


def test_an_ordinary_import_registers_nothing(write: Write) -> None:
    before = dict(PARTS), dict(CUSTOM_LAYERS)
    namespace: dict[str, object] = {}
    exec(LAYERS.partition('base("two')[0], namespace)
    assert isinstance(namespace["Gate"], type)
    assert (dict(PARTS), dict(CUSTOM_LAYERS)) == before


@pytest.mark.parametrize(
    ("text", "expected"),
    [("def f(:", "bad.py:1: SyntaxError"), ("import not_there", "bad.py:1: ModuleNotFoundError"),
     ("\nraise RuntimeError('no')", "bad.py:2: RuntimeError: no"), ("import sys\nsys.exit(1)", "bad.py:2: SystemExit"),
     (HEAD + "@attention('se')\nclass A: pass", "bad.py:6: ValueError: the name 'se'"),
     (HEAD + "@network('resnet8')\nclass A: pass", "bad.py:6: ValueError: the name 'resnet8'"),
     (HEAD + "@block('basic')\nclass A: pass", "the name 'basic'"),
     (HEAD + "@attention('x')\nclass A: pass\n@attention('x')\nclass B: pass", "bad.py:8: ValueError: the name 'x'"),
     (HEAD + "@attention('x y')\nclass A: pass", "'x y' is not a valid name"),
     (HEAD + "@network\nclass A: pass", '@network("my_name")'), (HEAD + "@network('baseline')\nclass A: pass", "taken"),
     (HEAD + "@attention\nclass A: pass", '@attention("my_name")'),
     ("class Odd(Exception):\n    def __str__(self):\n        raise self\nraise Odd", "bad.py:4: Odd"),
     ("import beside", "beside.py:2: NameError")],
)  # fmt: skip
def test_an_error_names_the_line_of_the_plugin_and_leaves_nothing_registered(
    write: Write, text: str, expected: str
) -> None:
    before = dict(PARTS), dict(CUSTOM_LAYERS), dict(NETWORKS)
    write("beside.py", "\nundefined\n")
    with pytest.raises(InputError) as caught:
        load_plugins([write("bad.py", text)])
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (dict(PARTS), dict(CUSTOM_LAYERS), dict(NETWORKS)) == before
    assert active_plugins() == ()


@pytest.mark.parametrize(
    ("spec", "expected"),
    [("my_net+avg_down", "accepts no change of shortcut"), ("my_net+blurpool", "aa_layer"), ("my_net/8", "16 to 1024"),
     ("resnet8+block=flat+avg_down", "shortcut"), ("resnet8+block=flat+drop_path", "drop_path"),
     ("resnet8+block=flat+shakedrop", "shakedrop"), ("resnet8+block=flat+drop_block", "drop_block"),
     ("resnet8+block=flat+layer_scale", "layer_scale"), ("resnet8+block=flat+res2net", "bottleneck blocks"),
     ("resnet8+block=flat+preact", "order"), ("resnet8+gate=x", "'x' is not"), ("my_nett", "did you mean 'my_net'")],
)  # fmt: skip
def test_a_part_that_a_network_or_block_does_not_accept_is_refused(write: Write, spec: str, expected: str) -> None:
    load_plugins([write("layers.py", LAYERS), write("nets.py", NETWORK)])
    with pytest.raises(InputError, match=expected):
        build(parse(spec).architecture, 5)


@pytest.mark.parametrize(
    ("code", "expected"),
    [("return 3", "returns int, not Variant"), ("return variant.nothing", "parts.py:8: AttributeError"),
     ("raise ValueError('too wide')", "does not fit: too wide")],
)  # fmt: skip
def test_an_error_in_a_part_is_one_line(write: Write, code: str, expected: str) -> None:
    load_plugins([write("parts.py", HEAD + f"@part('x')\ndef odd(variant):\n    {code}\n")])
    with pytest.raises(InputError, match=expected):
        parse("resnet8+odd")


@pytest.mark.parametrize(
    ("plan", "expected"),
    [("nofile.py:X", "there is no such file"), ("nets.py:Other", "no class or function 'Other'; it has: MyNet"),
     ("resnet8+nets.py:nn", "no class or function 'nn'")],
)  # fmt: skip
def test_a_plan_that_names_something_missing_is_refused(write: Write, plan: str, expected: str) -> None:
    write("nets.py", NETWORK)
    with pytest.raises(InputError, match=expected):
        load_plugins(plan=plan)


def test_a_model_of_another_version_is_not_built(write: Write) -> None:
    load_plugins([write("layers.py", LAYERS), write("nets.py", NETWORK)])
    architectures = [parse(spec).architecture for spec in ("resnet8+gate", "my_net")]
    write("layers.py", LAYERS + "\n\n")
    write("nets.py", NETWORK + "\n\n")
    load_plugins(["layers.py", "nets.py"])
    for architecture in architectures:
        with pytest.raises(InputError, match=r"is from version \w{8} of (layers|nets).py, but version \w{8} is loaded"):
            build(architecture, 5)
    unload_plugins()
    for architecture in architectures:
        with pytest.raises(InputError, match=r"add --plugin FILE\.py"):
            build(architecture, 5)


def test_an_installed_plugin_is_loaded_by_its_entry_point(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("site/installed_nets.py", NETWORK)
    write("site/installed_nets-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: installed-nets\nVersion: 1\n")
    write("site/installed_nets-1.dist-info/entry_points.txt", "[timm_ablate.plugins]\nnets = installed_nets\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    load_plugins()
    plugins, key = active_plugins(), parse("my_net").architecture.key()
    unload_plugins()
    sys.modules.pop("installed_nets")
    restore_plugins(plugins)
    assert parse("my_net").architecture.key() == key
    unload_plugins()
    sys.modules.pop("installed_nets")
    write("site/installed_nets.py", NETWORK + "\n# newer\n")
    with pytest.raises(InputError, match="installed_nets has version"):
        restore_plugins(plugins)


@pytest.mark.parametrize(("spec", "kind"), [("my_net", "base"), ("resnet8+my_net", "part")])
def test_a_forgotten_plugin_is_suggested(write: Write, spec: str, kind: str) -> None:
    write("my_net.py", NETWORK)
    with pytest.raises(InputError, match=rf"unknown {kind} 'my_net'.*: to load my_net\.py, add --plugin my_net\.py"):
        parse(spec)
