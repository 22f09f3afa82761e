"""`DeviceProfile`: how fast a device trains, stored as a small JSON file that other machines can use."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from arch.errors import InputError, unknown
from benchmarks.definition.validation import strict_adapter
from benchmarks.records.atomic_write import replace_file


@dataclass(frozen=True)
class DeviceProfile:
    """The speed of one device under one precision."""

    device: str
    precision: str  # precision of the measured training steps
    versions: dict[str, str]
    nets: int  # number of measured models that the profile was fitted to
    median_error: float  # relative error on models that were left out of the fit
    worst_error: float  # 90th percentile of the same errors
    cache: int  # bytes; an operator that moves fewer bytes than this costs less per byte
    seconds_per: dict[str, float]  # seconds per unit of each load, such as "flops of matrix product"

    def accuracy(self) -> str:
        """Return the cross-validated error as a phrase."""
        median, worst = 100 * self.median_error, 100 * self.worst_error
        return f"cross-validated error: median {median:.1f}%, 90th percentile {worst:.1f}%"


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


def read_profile(name: str) -> DeviceProfile:
    """Read a profile by its name, or from the path of a .json file.

    Raises:
        InputError: If there is no such profile, or it is damaged.
    """
    known = {path.stem: path for path in profiles_folder().glob("*.json")}
    path = Path(name) if name.endswith(".json") else known.get(name)
    if path is None and not known:
        raise InputError(
            f"unknown device profile {name!r}: there are no profiles yet; create one with budget-check --calibrate, "
            "or give the path of a .json file"
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
    """Parse a profile from JSON.

    Raises:
        ValueError: If the content is not a profile; the message is one line.
    """
    from pydantic import ValidationError

    try:
        profile: DeviceProfile = strict_adapter(DeviceProfile).validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    if any(seconds < 0 for seconds in profile.seconds_per.values()):
        raise ValueError("seconds_per must be non-negative")
    return profile
