"""`ablate new`: write a commented template of a part, a network or a benchmark."""

import keyword
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from arch.errors import InputError

SUFFIXES = {"part": ".py", "net": ".py", "benchmark": ".toml"}


class Template(StrEnum):
    """What `ablate new` can write."""

    part = "part"
    net = "net"
    benchmark = "benchmark"


def new(
    kind: Annotated[Template, typer.Argument()],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File to write; its name becomes the name in plans.")],
) -> int:
    """Write a template of a part, a network or a benchmark, which runs as it is."""
    suffix = SUFFIXES[kind]
    if file.suffix != suffix:
        raise InputError(f"{file}: a {kind} is a {suffix} file, such as my_{kind}{suffix}")
    _check_name(kind, file.stem)
    text = files("ablation").joinpath("templates", f"{kind}{suffix}.txt").read_text(encoding="utf-8")
    class_name = "".join(word.capitalize() for word in file.stem.split("_"))
    for field, value in (("name", file.stem), ("file", file.name), ("class_name", class_name)):
        text = text.replace(f"{{{field}}}", value)
    try:
        with file.open("x", encoding="utf-8") as written:
            written.write(text)
    except FileExistsError as error:
        raise InputError(f"{file} exists: choose another name or remove it") from error
    except OSError as error:
        raise InputError(f"cannot write {file}: {error.strerror}") from error
    print(f"written: {file}; its first lines say how to use it")
    return 0


def _check_name(kind: Template, name: str) -> None:
    """Raise InputError if a name cannot be used in plans or is taken."""
    from arch.bases import BASES
    from arch.parts import PARTS
    from arch.plans import PLANS
    from benchmarks.definition.registry import BENCHMARKS

    if not name.isascii() or not name.isidentifier() or keyword.iskeyword(name):
        raise InputError(f"{name!r} cannot be a name in plans: use letters, digits and _, such as my_{kind}")
    names: dict[Template, set[str]] = {
        Template.part: set(PARTS),
        Template.net: {*BASES, *PLANS},
        Template.benchmark: set(BENCHMARKS),
    }
    if name in names[kind] or name == "baseline":
        raise InputError(f"the name {name!r} is taken by a built-in {kind}: choose another file name")
