"""Where measurements of a device are cached: one file for each device, computer, set of versions and subject."""

import hashlib
import json
import os
import platform
from pathlib import Path

from platformdirs import user_cache_path

from benchmarks.definition.versions import versions
from benchmarks.execution.device import device_name, gpu_versions


def device_versions(device: str) -> dict[str, str]:
    """Return the versions that a measurement depends on."""
    return versions() | gpu_versions(device)


def cache_file(folder: str, subject: object, device: str) -> Path:
    """Return the path of a cached measurement.

    Args:
        folder: Name of the folder in the user's cache.
        subject: What is measured, JSON-serializable.
        device: "cpu", "cuda", "cuda:1"...
    """
    where = [platform.node(), device_name(device), os.cpu_count(), device_versions(device)]
    digest = hashlib.sha256(json.dumps([subject, where], sort_keys=True).encode()).hexdigest()[:24]
    return user_cache_path("timm-ablate") / folder / f"{digest}.json"
