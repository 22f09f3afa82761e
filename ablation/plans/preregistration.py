"""`Preregistration`: what is declared about an ablation before its first run, and the hash that identifies it."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Le

from ablation.plans.choices import Pairing
from ablation.plans.plan import Plan
from ablation.plans.stored_plans import StoredRow, has_valid_references, store_row
from arch.plugins import plugin_versions
from benchmarks.definition.benchmark import Benchmark, identify
from benchmarks.definition.validation import strict_adapter
from benchmarks.definition.versions import commit, versions

if TYPE_CHECKING:
    from pydantic import TypeAdapter

PREREGISTRATION_FORMAT = 1
SHORT_HASH_CHARACTERS = 16  # in file names and notes: 64 bits, too many to search for a second file with the same start
METRIC = "top-1 accuracy of the final epoch on the test split, in percent"


@dataclass(frozen=True)
class DeclaredTest:
    """How the changes of an ablation will be tested.

    Attributes:
        pairing: Whether the differences are taken within each seed.
        equivalence: The margin of the equivalence test in points; None: no such test.
        alpha: The family-wise error rate.
        correction: The correction for the number of rows.
        until_decided: Whether seeds are added until each change is decided: see `ablation.analysis.sequential`.
    """

    pairing: Pairing
    equivalence: float | None
    alpha: float
    correction: str = "Holm"
    until_decided: bool = False


@dataclass(frozen=True)
class DeclaredBenchmark:
    """The benchmark. `definition` contains every field that affects results, and `id` is its hash."""

    name: str
    id: str
    definition: dict[str, Any]
    baseline: str
    budget: dict[str, Any]


@dataclass(frozen=True)
class DeclaredCode:
    """The code: versions of packages, the git commit ("" if installed), and the digests of plugins, as in records."""

    versions: dict[str, str]
    commit: str
    plugins: dict[str, str]

    @property
    def has_uncommitted_changes(self) -> bool:
        """Whether the commit does not identify the code."""
        return self.commit.endswith("+")


@dataclass(frozen=True)
class Preregistration:
    """What is declared about an ablation before its first run.

    Attributes:
        declared: The time of the declaration, UTC, ISO 8601.
        plan: The text of the plan.
        rows: The rows of the plan, with the keys of their configs.
        seeds: The number of seeds per row, which are 0 to `seeds - 1`; their maximum if they are added until each
            change is decided.
        test: How the changes are tested.
        benchmark: Data, recipe and budget.
        code: The versions of the code.
        metric: The primary metric.
        format: The format of the file.
    """

    declared: str
    plan: str
    rows: tuple[StoredRow, ...]
    seeds: Annotated[int, Ge(1), Le(1000)]
    test: DeclaredTest
    benchmark: DeclaredBenchmark
    code: DeclaredCode
    metric: str = METRIC
    format: int = field(default=PREREGISTRATION_FORMAT, kw_only=True)

    @property
    def sha256(self) -> str:
        """The hash of the canonical JSON of all fields: sorted keys, no spaces, ASCII."""
        content = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def short_hash(self) -> str:
        """The start of the hash, for file names and notes."""
        return self.sha256[:SHORT_HASH_CHARACTERS]

    @property
    def date(self) -> str:
        """The time of the declaration, to the minute."""
        return f"{self.declared[:16].replace('T', ' ')} UTC"

    def declares_the_same(self, other: "Preregistration") -> bool:
        """Return whether two preregistrations differ at most in their time."""
        return replace(self, declared="").sha256 == replace(other, declared="").sha256

    def to_json(self) -> dict[str, Any]:
        """Return the content of the file: all fields and their hash."""
        return {**asdict(self), "sha256": self.sha256}


def preregister(plan: Plan, seeds: int, test: DeclaredTest, benchmark: DeclaredBenchmark, now: str) -> Preregistration:
    """Return the preregistration of a plan under the installed code.

    Args:
        plan: The plan, with the digests of its initial weights.
        seeds: The number of seeds per row.
        test: How the changes are tested.
        benchmark: The benchmark.
        now: The current time, UTC, ISO 8601.
    """
    architectures = [architecture for row in plan.rows for architecture in row.config.architectures]
    code = DeclaredCode(versions(), commit(), plugin_versions(architectures))
    return Preregistration(now, str(plan), tuple(map(store_row, plan.rows)), seeds, test, benchmark, code)


def declare_benchmark(benchmark: Benchmark, fingerprint: str, device: str) -> DeclaredBenchmark:
    """Return what a preregistration contains about a benchmark.

    Args:
        benchmark: The benchmark.
        fingerprint: The hash of its images.
        device: The type of the device ("cpu", "cuda").
    """
    definition = json.loads(json.dumps(benchmark.definition(fingerprint, device)))  # equal to what is read back
    budget = asdict(benchmark.budget)
    return DeclaredBenchmark(benchmark.name, identify(definition), definition, benchmark.baseline, budget)


def parse_preregistration(content: bytes) -> Preregistration:
    """Return the preregistration that a file contains.

    Raises:
        ValueError: If the content is not a preregistration of this format. If it is one that was edited, so that its
            hash does not match, the error is an `EditedPreregistration`.
    """
    fields = json.loads(content)
    if not isinstance(fields, dict):
        raise ValueError("it is not a JSON object")
    sha256 = fields.pop("sha256", None)
    parsed: Preregistration = _adapter().validate_json(json.dumps(fields))
    is_utc = datetime.fromisoformat(parsed.declared).utcoffset() == timedelta(0)
    if parsed.format != PREREGISTRATION_FORMAT or not is_utc or not has_valid_references(parsed.rows):
        raise ValueError("its format, its time or its rows are invalid")
    if parsed.sha256 != sha256:
        raise EditedPreregistration
    return parsed


class EditedPreregistration(ValueError):
    """The hash of a preregistration does not match its content."""


@cache
def _adapter() -> "TypeAdapter[Preregistration]":
    return strict_adapter(Preregistration, StoredRow, DeclaredTest, DeclaredBenchmark, DeclaredCode)


def latest(preregistrations: Iterable[Preregistration]) -> list[Preregistration]:
    """Return preregistrations, without duplicates, the latest first."""
    by_hash = {preregistration.sha256: preregistration for preregistration in preregistrations}
    return sorted(by_hash.values(), key=lambda preregistration: preregistration.declared, reverse=True)
