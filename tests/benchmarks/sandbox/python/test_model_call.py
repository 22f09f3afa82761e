import ast

import pytest

from arch.errors import InputError
from benchmarks.sandbox.python.model_call import MAX_CALL_CHARACTERS, read_call

VALUES = {"Block": "a block", "width": 4}


@pytest.mark.parametrize(
    ("text", "positional", "keywords"),
    [
        ("Net", [], {}),
        ("Net()", [], {}),
        ("Net(28, 10)", [28, 10], {}),
        (
            "Net(depth=28, rate=-0.5, act='relu', ok=True, last=None)",
            [],
            {"depth": 28, "rate": -0.5, "act": "relu", "ok": True, "last": None},
        ),
        (
            "Net(Block, [2, 2], sizes=(width, 8), cfg={'a': [1, width]})",
            ["a block", [2, 2]],
            {"sizes": (4, 8), "cfg": {"a": [1, 4]}},
        ),
    ],
)
def test_literals_and_names_are_values(text: str, positional: list[object], keywords: dict[str, object]) -> None:
    call = read_call(text)
    assert call.name == "Net"
    assert call.evaluate(VALUES.__getitem__) == (positional, keywords)


def test_further_arguments_are_added() -> None:
    call = read_call("Net(28)", ["width=width", "act='a=b'"])
    assert call.evaluate(VALUES.__getitem__) == ([28], {"width": 4, "act": "a=b"})
    assert call.describe("Net", {"num_classes": 10}) == "Net(28, width=width, act='a=b', num_classes=10)"


@pytest.mark.parametrize(
    "value",
    [
        "os.system('touch trace')",
        "Block.__class__.__base__.__subclasses__()",
        "[x for x in (1, 2)]",
        "{x: x for x in (1, 2)}",
        "lambda: 1",
        "__import__('os')",
        "__builtins__",
        "Block()",
        "Block[0]",
        "f'{Block}'",
        "(x := 1)",
        "9**9**9",
        "-Block",
        "~1",
        "*Block",
        "1 if Block else 2",
        "{**Block}",
        "await Block",
        "(yield)",
        "[[lambda: 1]]",
        "{'a': Block.b}",
    ],
)
def test_code_is_invalid(value: str) -> None:
    for text, arguments in ((f"Net({value})", []), (f"Net(a={value})", []), ("Net", [f"a={value}"])):
        with pytest.raises(InputError, match=r"literal or a name of the file|not a call|quote text"):
            read_call(text, arguments)


@pytest.mark.parametrize(
    "text",
    [
        "Net.sub.sub(1)",
        "Net.__init_subclass__()",
        "Net(1).sub(1)",
        "Net(1)(2)",
        "Net(1",
        "Net(1) + 1",
        "a.b.c",
        "a._b",
        "Net; import os",
        "lambda: 1",
        "(Net)()(1)",
        "Net(**width)",
        "Net(" + "(" * 500 + ")" * 501,
        "Net(" + "1, " * MAX_CALL_CHARACTERS + ")",
    ],
)
def test_anything_but_a_call_of_a_name_is_invalid(text: str) -> None:
    with pytest.raises(InputError):
        read_call(text)


@pytest.mark.parametrize("argument", ["depth", "=3", "a.b=3", "1=2", "depth=", "depth=resnet-18 (x"])
def test_argument_is_a_key_and_a_value(argument: str) -> None:
    with pytest.raises(InputError, match="--arg"):
        read_call("Net", [argument])


def test_argument_that_is_given_twice_is_invalid() -> None:
    with pytest.raises(InputError, match="width is given twice"):
        read_call("Net(width=3)", ["width=4"])


def test_class_method_is_a_name() -> None:
    assert read_call("Net.small").name == read_call("Net.small(3)").name == "Net.small"


def test_names_are_not_resolved_in_advance() -> None:
    assert isinstance(read_call("Net(missing)").positional[0], ast.Name)
