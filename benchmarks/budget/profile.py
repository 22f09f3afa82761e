"""`DeviceProfile`: how fast a device trains, stored as a small JSON file that other machines can use."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePath
from typing import Literal

from arch.errors import InputError, unknown
from benchmarks.definition.benchmark import Benchmark, Budget
from benchmarks.definition.validation import strict_adapter
from benchmarks.records.atomic_write import replace_file

SHIPPED_PROFILES = Path(__file__).parent / "profiles"
NO_PROFILE = "none"  # value of --device-profile that selects the device at hand


@dataclass(frozen=True)
class FamilyError:
    """The error of a profile on one family of models."""

    nets: int
    median: float
    worst: float  # 90th percentile


@dataclass(frozen=True)
class DeviceProfile:
    """The speed of one device under one precision.

    Attributes:
        device: Name of the device, as torch gives it.
        precision: Precision of the measured training steps.
        versions: Versions that the steps were measured with.
        nets: Number of measured models that the profile was fitted to.
        median_error: Relative error on models that were left out of the fit; None if no training was measured.
        worst_error: 90th percentile of the same errors.
        cache: Bytes; an operator that moves fewer bytes than this costs less per byte.
        seconds_per: Seconds per unit of each load, such as "flops, matrix product", and of the general kinds.
        format: Version of the names of the loads.
        source: Where the measurements were published, if they are not the user's own.
        error_by_family: Errors on whole families of models that were left out of the fit.
        derived: How the profile was derived, if the training steps were measured on another device.
        image_sizes: The smallest and the largest images of the measured steps, in pixels per side; None if unknown.
    """

    device: str
    precision: str
    versions: dict[str, str]
    nets: int
    median_error: float | None
    worst_error: float | None
    cache: int
    seconds_per: dict[str, float]
    format: Literal[2]
    source: dict[str, str] = field(default_factory=dict)
    error_by_family: dict[str, FamilyError] = field(default_factory=dict)
    derived: str = ""
    image_sizes: tuple[int, int] | None = None

    @property
    def digest(self) -> str:
        """A hash of the content, except the image sizes, which change no prediction."""
        content = {name: value for name, value in asdict(self).items() if name != "image_sizes"}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def label(self) -> str:
        """The device, and how the profile was derived if it was not fitted to training on it."""
        return f"{self.device} ({self.derived})" if self.derived else self.device

    @property
    def device_type(self) -> str:
        """The type of the device, as torch names it: "cpu" or "cuda"."""
        return "cpu" if self.device.startswith("cpu ") else "cuda"

    def accuracy(self) -> str:
        """Return the cross-validated error as a phrase."""
        if self.median_error is None or self.worst_error is None:
            return f"no interval: {self.derived}"
        median, worst = 100 * self.median_error, 100 * self.worst_error
        return f"cross-validated error: median {median:.1f}%, 90th percentile {worst:.1f}%"

    def extrapolation(self, image_size: int) -> str:
        """Return on which images the error was measured, as a phrase, if these are of another size; otherwise ""."""
        if self.image_sizes is None or self.worst_error is None:
            return ""
        smallest, largest = self.image_sizes
        if smallest <= image_size <= largest:
            return ""
        sizes = f"{smallest} px" if smallest == largest else f"{smallest} to {largest} px"
        return f"the error of the profile was measured on images of {sizes}, not {image_size} px"


def profiles_folder() -> Path:
    """Return the folder that `budget-check --calibrate` writes to."""
    from platformdirs import user_data_path

    return user_data_path("timm-ablate") / "profiles"


def profile_name(device: str) -> str:
    """Return the profile name of a device: `NVIDIA H200` becomes `nvidia_h200`."""
    return re.sub(r"[^a-z0-9]+", "_", device.lower()).strip("_")


def write_profile(profile: DeviceProfile) -> Path:
    """Write a profile to the folder in which `read_profile` looks for names, and return its path."""
    path = profiles_folder() / f"{profile_name(profile.device)}.json"
    replace_file(path, lambda file: file.write_text(json.dumps(asdict(profile), indent=1) + "\n"))
    return path


def read_profile(name: str, other_choices: Sequence[str] = ()) -> DeviceProfile:
    """Read a profile by its name, or from the path of a .json file. The user's own profiles precede the shipped ones.

    Args:
        name: The name of the profile, or the path of the file.
        other_choices: Words that the user could have given instead, for the error message.

    Raises:
        InputError: If there is no such profile, or it is damaged.
    """
    known = {path.stem: path for folder in (SHIPPED_PROFILES, profiles_folder()) for path in folder.glob("*.json")}
    path = Path(name) if name.endswith(".json") else known.get(name)
    if path is None:
        error = unknown("device profile", name, [*known, *other_choices])
        raise InputError(f"{error}, or the path of a .json file that budget-check --calibrate has written")
    try:
        return parse_profile(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read device profile {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{path} is not a device profile: {error}") from error


def budget_profile(budget: Budget) -> DeviceProfile | None:
    """Return the profile of the device that a budget names, if it names one; see `read_profile` for the errors."""
    return None if budget.device is None else read_profile(budget.device)


def budget_device_label(budget: Budget) -> str:
    """Return the name of the device that a budget names, or that of its profile if this computer does not have it."""
    try:
        profile = budget_profile(budget)
    except InputError:
        return PurePath(budget.device or "").stem
    return profile.label if profile else ""


def with_budget_device(benchmark: Benchmark, name: str | None) -> Benchmark:
    """Return a benchmark whose limit on the hours is about another device; see `read_profile` for the errors.

    Args:
        benchmark: The benchmark, whose budget may name a device.
        name: Name or file of a device profile, or `NO_PROFILE` for the device at hand; None keeps that of the budget.
    """
    if name is not None and name != NO_PROFILE:
        read_profile(name, [NO_PROFILE])
    if name is not None:
        file = str(Path(name).resolve()) if name.endswith(".json") else name  # records are read in other folders, too
        benchmark = replace(benchmark, budget=replace(benchmark.budget, device=None if name == NO_PROFILE else file))
    budget_profile(benchmark.budget)
    return benchmark


def parse_profile(content: bytes | str) -> DeviceProfile:
    """Parse a profile from JSON.

    Raises:
        ValueError: If the content is not a profile; the message is one line.
    """
    from pydantic import ValidationError

    try:
        profile: DeviceProfile = strict_adapter(DeviceProfile).validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        hint = "; profiles of earlier versions must be measured again" if first["loc"] == ("format",) else ""
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}{hint}") from error
    if any(seconds < 0 for seconds in profile.seconds_per.values()) or not any(profile.seconds_per.values()):
        raise ValueError("seconds_per must be non-negative, and not all of them 0")
    if min(profile.median_error or 0, profile.worst_error or 0) < 0:
        raise ValueError("median_error and worst_error must be non-negative")
    return profile
