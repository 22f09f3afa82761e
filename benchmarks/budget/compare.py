"""Compare the verdicts on two models: their costs, and the layers in which they differ."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from typing import Any, Literal

from benchmarks.budget.verdict import LayerCost, Verdict

LAYER_NOTES = (
    "the MACs of layers are torch's count, which leaves out norms and pooling",
    "functions such as torch.nn.functional.relu are not layers",
)

RowKind = Literal["equal", "only in A", "only in B", "changed"]
Layers = Sequence[LayerCost]


@dataclass(frozen=True)
class Total:
    """A number of both models; None if it is unknown."""

    name: str
    a: float | None
    b: float | None

    @property
    def difference(self) -> float | None:
        """B - A."""
        return None if self.a is None or self.b is None else self.b - self.a

    @property
    def percent(self) -> float | None:
        """The difference in percent of A."""
        return None if self.difference is None or not self.a else 100 * self.difference / self.a


@dataclass(frozen=True)
class LayerRow:
    """Equal layers in a row, a layer of one model, or a pair of layers that differ.

    Attributes:
        kind: In which way the models differ.
        a: The layer of A, or the first of them; None if there is none.
        b: The layer of B, or the first of them; None if there is none.
        count: Number of layers in each model that has them.
        params_a: Parameters of these layers in A.
        params_b: Parameters of these layers in B.
        macs_a: MACs of these layers in A.
        macs_b: MACs of these layers in B.
    """

    kind: RowKind
    a: LayerCost | None
    b: LayerCost | None
    count: int
    params_a: int
    params_b: int
    macs_a: int
    macs_b: int


@dataclass(frozen=True)
class Comparison:
    """The differences between two models."""

    model_a: str
    model_b: str
    totals: tuple[Total, ...]
    rows: tuple[LayerRow, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as plain data."""
        totals = [{**asdict(total), "difference": total.difference, "percent": total.percent} for total in self.totals]
        return {**asdict(self), "totals": totals}


def compare(a: Verdict, b: Verdict) -> Comparison:
    """Compare two models.

    Args:
        a: The verdict on the first model, from a `CheckRequest` with `layers`.
        b: The verdict on the second model.
    """
    unlisted = [f"{name} ({verdict.model})" for name, verdict in (("A", a), ("B", b)) if not verdict.layers]
    rows = () if unlisted else tuple(compare_layers(a.layers, b.layers))
    notes = tuple(f"the layers of {name} are unknown" for name in unlisted) or LAYER_NOTES
    return Comparison(a.model, b.model, tuple(_totals(a, b)), rows, notes)


def compare_layers(a: Layers, b: Layers) -> Iterator[LayerRow]:
    """Align two lists of layers, and yield a row for each difference and for each run of equal layers.

    Layers are equal if their types, settings, parameters and output shapes are, whatever their names. Layers without
    parameters and MACs whose type only one model has, such as another activation, are one row per type, which comes
    last: the other model may apply them as functions.
    """
    free_a, free_b = _free_types(a) - _types(b), _free_types(b) - _types(a)
    kept_a = [layer for layer in a if layer.type not in free_a]
    kept_b = [layer for layer in b if layer.type not in free_b]
    for tag, start_a, end_a, start_b, end_b in _opcodes([*map(_key, kept_a)], [*map(_key, kept_b)]):
        part_a, part_b = kept_a[start_a:end_a], kept_b[start_b:end_b]
        if tag == "equal":
            yield _row(part_a, part_b)
        else:
            yield from _differences(part_a, part_b)
    for kind in sorted(free_a):
        yield _row([layer for layer in a if layer.type == kind], [])
    for kind in sorted(free_b):
        yield _row([], [layer for layer in b if layer.type == kind])


def _differences(a: Layers, b: Layers) -> Iterator[LayerRow]:
    """Yield the rows of a block in which all layers differ; layers of the same type are paired."""
    for tag, start_a, end_a, start_b, end_b in _opcodes([layer.type for layer in a], [layer.type for layer in b]):
        part_a, part_b = a[start_a:end_a], b[start_b:end_b]
        pairs = min(len(part_a), len(part_b)) if tag in ("equal", "replace") else 0
        for first, second in zip(part_a[:pairs], part_b[:pairs], strict=True):
            yield _row([first], [second])
        for layer in part_a[pairs:]:
            yield _row([layer], [])
        for layer in part_b[pairs:]:
            yield _row([], [layer])


def _opcodes(a: list[Any], b: list[Any]) -> Sequence[tuple[str, int, int, int, int]]:
    return SequenceMatcher(None, a, b, autojunk=False).get_opcodes()


def _key(layer: LayerCost) -> tuple[object, ...]:
    return layer.type, layer.settings, layer.params, layer.output_shape


def _types(layers: Layers) -> set[str]:
    return {layer.type for layer in layers}


def _free_types(layers: Layers) -> set[str]:
    """Return the types whose layers have neither parameters nor MACs."""
    return _types(layers) - {layer.type for layer in layers if layer.params or layer.macs}


def _row(a: Layers, b: Layers) -> LayerRow:
    kind: RowKind = "only in B" if not a else "only in A" if not b else "changed"
    if [*map(_key, a)] == [*map(_key, b)]:
        kind = "equal"
    return LayerRow(
        kind=kind,
        a=a[0] if a else None,
        b=b[0] if b else None,
        count=max(len(a), len(b)),
        params_a=sum(layer.params for layer in a),
        params_b=sum(layer.params for layer in b),
        macs_a=sum(layer.macs for layer in a),
        macs_b=sum(layer.macs for layer in b),
    )


def _totals(a: Verdict, b: Verdict) -> Iterator[Total]:
    yield Total("parameters", a.cost.params, b.cost.params)
    yield Total("MACs", a.cost.macs, b.cost.macs)
    yield Total("activations", a.cost.activations, b.cost.activations)
    yield Total("training memory (bytes)", a.cost.training_memory, b.cost.training_memory)
    hours = [verdict.hours.predicted if verdict.hours else None for verdict in (a, b)]
    if hours != [None, None]:
        yield Total("predicted hours", *hours)
