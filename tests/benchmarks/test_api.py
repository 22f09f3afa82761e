from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import benchmarks
from arch.errors import InputError
from benchmarks.budget.request import CheckRequest, FileOptions
from benchmarks.budget.verdict import Verdict
from benchmarks.sandbox.file_check import FileChecker, FilePolicy

NET = """
from torch import nn

class Wide(nn.Linear):
    pass

def build(width, num_classes, img_size=4, layer=nn.Linear, act="none"):
    activation = nn.ReLU() if act == "relu" else nn.Identity()
    return nn.Sequential(nn.Flatten(), layer(img_size**2, width), activation, nn.Linear(width, num_classes))
"""


@pytest.fixture
def net(tmp_path: Path) -> str:
    path = tmp_path / "net.py"
    path.write_text(NET)
    return f"{path}:build"


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[CheckRequest, FilePolicy]]:
    """Replace the check of a model by a list that records the requests and policies."""
    recorded: list[tuple[CheckRequest, FilePolicy]] = []

    def check_model(request: CheckRequest, checker: FileChecker, report: object) -> tuple[None, str]:
        recorded.append((request, checker.policy))
        return None, ""

    monkeypatch.setattr("benchmarks.sandbox.model_check.check_model", check_model)
    return recorded


@pytest.mark.slow
def test_options_of_a_python_file_are_used(net: str) -> None:
    verdict: Verdict = benchmarks.check_budget(
        net,
        benchmark="digits",
        timing=False,
        trust=True,
        arguments={"width": 3, "act": "relu"},
        classes=7,
        image_size=6,
        max_params=100,
        layers=True,
    )
    assert verdict.cost.params == (36 * 3 + 3) + (3 * 7 + 7)
    assert verdict.image_size == 6
    assert verdict.problems == ("139 parameters > 100",)
    assert [layer.type for layer in verdict.layers] == ["Flatten", "Linear", "ReLU", "Linear"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"depth": 28, "act": "relu", "layers": [2, 2]}, ("depth=28", "act='relu'", "layers=[2, 2]")),
        (["block=BasicBlock", "depth=28"], ("block=BasicBlock", "depth=28")),
        ((), ()),
    ],
)
def test_arguments_are_a_dict_or_strings(
    arguments: Any, expected: Sequence[str], checks: list[tuple[CheckRequest, FilePolicy]]
) -> None:
    benchmarks.check_budget("net.py", timing=False, arguments=arguments)
    assert checks[0][0].file_options.arguments == expected


def test_options_are_those_of_the_command(checks: list[tuple[CheckRequest, FilePolicy]]) -> None:
    options: dict[str, Any] = {"classes": 7, "image_size": 16, "output": 1, "max_params": 10}
    benchmarks.check_budget("net.py", timing=False, **options, time_limit=5, memory_limit=0.5, allow_code=True)
    ((request, policy),) = checks
    assert request.file_options == FileOptions(7, 16, "1")
    assert (request.benchmark.budget.max_params, request.image_counts) == (10, (50_000, 10_000))
    assert (policy.limits.seconds, policy.limits.memory) == (5, 2**29)
    assert (policy.allow_code, policy.trust) == (True, False)


def test_limits_have_the_defaults_of_the_command(checks: list[tuple[CheckRequest, FilePolicy]]) -> None:
    for timing in (True, False):
        benchmarks.check_budget("resnet8", benchmark="digits", timing=timing)
    assert [policy.limits.seconds for _, policy in checks] == [600, 120]
    assert [request.image_counts is None for request, _ in checks] == [False, True]


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ({"max_hours": 1.0}, "max_hours"),
        ({"max_params": 0}, "max_params"),
        ({"classes": 1}, "classes"),
        ({"image_size": 1000}, "512"),
        ({"time_limit": 0}, "time_limit"),
        ({"memory_limit": -1}, "memory_limit"),
        ({"arguments": "depth=28"}, "depth=28"),
        ({"device_profile": "unknown"}, "unknown"),
        ({"classes": 5}, "Python files"),  # the model is a spec
    ],
)
def test_invalid_option_is_rejected(options: dict[str, Any], fact: str) -> None:
    with pytest.raises(InputError, match=fact):
        benchmarks.check_budget("resnet8", benchmark="digits", timing=False, **options)


def test_inference_is_requested(net: str, checks: list[tuple[CheckRequest, FilePolicy]]) -> None:
    benchmarks.check_budget(net, benchmark="digits", timing=False)
    benchmarks.check_budget(net, benchmark="digits", timing=False, inference=True)
    benchmarks.check_budget(net, benchmark="digits", timing=False, inference=True, inference_batch=9)
    assert [(request.inference_batch, policy.limits.seconds) for request, policy in checks] == [
        (0, 120),
        (256, 600),
        (9, 600),
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"peak": True, "timing": False}, "timing=True"),
        ({"energy": True, "device_profile": "rtx3090"}, "timing=True"),
        ({"inference": True, "inference_batch": 0}, "inference_batch"),
    ],
)
def test_impossible_measurements_are_invalid(options: dict[str, Any], expected: str, net: str) -> None:
    with pytest.raises(InputError, match=expected):
        benchmarks.check_budget(net, benchmark="digits", **options)
