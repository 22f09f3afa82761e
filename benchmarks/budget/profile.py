"""`DeviceProfile`: how fast a device trains, as a small JSON file that other machines can use. Plain data; knows no torch."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from arch.errors import InputError, unknown
from benchmarks.definition.benchmark import strict_adapter
from benchmarks.records.atomic_write import replace_file


@dataclass(frozen=True)
class DeviceProfile:
    """One device under one precision."""

    device: str
    precision: str  # that training ran in
    versions: dict[str, str]
    nets: int  # measured nets that it was fitted to
    median_error: float  # relative, on nets left out of the fit
    worst_error: float  # the 90th percentile of the same
    cache: int  # bytes below which what an operator moves costs less
    seconds_per: dict[str, float]  # of each load, such as "flops of matrix product"

    def accuracy(self) -> str:
        """How far off its predictions were, in words."""
        median, worst = 100 * self.median_error, 100 * self.worst_error
        return (
            f"on nets left out of the fit it was {median:.1f}% off in the median, {worst:.1f}% or more for one in ten"
        )


def own_profiles() -> Path:
    """Where `budget-check --calibrate` writes."""
    from platformdirs import user_data_path

    return user_data_path("timm-ablate") / "profiles"


def profile_name(device: str) -> str:
    """`NVIDIA H200` as `nvidia_h200`."""
    return re.sub(r"[^a-z0-9]+", "_", device.lower()).strip("_")


def write_profile(profile: DeviceProfile) -> Path:
    """Writes a profile where `read_profile` finds it by its name, and returns the path."""
    path = own_profiles() / f"{profile_name(profile.device)}.json"
    replace_file(path, lambda file: file.write_text(json.dumps(asdict(profile), indent=1) + "\n"))
    return path


def read_profile(name: str) -> DeviceProfile:
    """Reads a profile by its name, or from a .json file. Raises InputError."""
    known = {path.stem: path for path in own_profiles().glob("*.json")}
    path = Path(name) if name.endswith(".json") else known.get(name)
    if path is None and not known:
        raise InputError(
            "there is no device profile yet: budget-check --calibrate writes one; valid is also a .json file"
        )
    if path is None:
        raise unknown("device profile", name, known, " (or a .json file)")
    try:
        return parse_profile(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read device profile {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{path} is not a device profile: {error}") from error


def parse_profile(content: bytes | str) -> DeviceProfile:
    """A profile from JSON. Raises ValueError in one line."""
    from pydantic import ValidationError

    try:
        profile: DeviceProfile = strict_adapter(DeviceProfile).validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    if any(seconds < 0 for seconds in profile.seconds_per.values()):
        raise ValueError("nothing takes less than no time")
    return profile
