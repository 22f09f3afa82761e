import pytest

from arch.errors import InputError
from benchmarks.datasets.sources import SOURCE_FUNCTIONS
from benchmarks.definition.data_sources import SOURCES, check_source, split_source


def test_every_source_can_be_resolved() -> None:
    assert SOURCE_FUNCTIONS.keys() == SOURCES.keys()


@pytest.mark.parametrize("source", ["digits", "folder", "hf", "hf/ylecun/mnist", "torchvision/MNIST"])
def test_existing_sources_are_accepted(source: str) -> None:
    check_source(source)
    assert "".join(split_source(source)) == source


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("digit", "unknown data source 'digit': did you mean 'digits'"),
        ("digits/", "unknown data source 'digits/'"),
        ("torchvision", "did you mean 'torchvision/NAME'"),
        ("torchvision/", "needs the name of a data set: .*torchvision/FashionMNIST"),
        ("", "unknown data source ''"),
    ],
)
def test_other_sources_are_explained(source: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        check_source(source)
