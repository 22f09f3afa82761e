"""The names of data sources: the values of `source` in the [data] section of a benchmark."""

from arch.entries import DATA_SOURCES
from arch.errors import InputError, unknown

# name -> meaning. A name that ends with "/" is followed by the name of a data set.
SOURCES: dict[str, str] = {
    "digits": "the handwritten digits of scikit-learn",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "folder": "an image folder or a CSV file (--data)",
    "torchvision/": "a data set of torchvision, such as torchvision/FashionMNIST",
    "hf": "a data set that was saved with Hugging Face `datasets`, or Parquet files (--data)",
    "hf/": "a data set of the Hugging Face Hub, such as hf/uoft-cs/cifar100",
}


def split_source(source: str) -> tuple[str, str]:
    """Split a source into its kind and the name of the data set: "hf/ylecun/mnist" into "hf/" and "ylecun/mnist"."""
    kind, slash, name = source.partition("/")
    return kind + slash, name


def check_source(source: str) -> None:
    """Raise InputError unless a source exists. The name of a data set after the "/" is checked when it is read."""
    if source in DATA_SOURCES:
        return
    kind, name = split_source(source)
    if kind not in SOURCES:
        names = [f"{kind}NAME" if kind.endswith("/") else kind for kind in SOURCES]
        raise unknown("data source", source[:60], [*names, *DATA_SOURCES])
    if kind.endswith("/") and not name:
        raise InputError(f"the data source {source!r} needs the name of a data set: {SOURCES[kind]}")
