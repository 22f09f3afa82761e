"""Derive the profile of an RTX 4090 from that of an RTX 3090, by the published inference throughput of both.

    python -m benchmarks.studies.derive_public_profile DATA_FOLDER [--cache FOLDER] [--out PROFILE.json]

No training was measured on an RTX 4090. timm published the inference throughput of the same networks on both cards,
with the same versions and in channels_last. The ratio of the two times of a network is modeled as the mean of one ratio
per kind of load (such as the FLOPs of convolutions), weighted by the share of each kind in the training time that the
profile of the RTX 3090 predicts. Multiplied by these ratios, it becomes that of the RTX 4090. The printed error is that
of the inference ratios, in ten folds; the error of the derived training times is not known.

There is no profile of an RTX 5090: its inference was published in the contiguous layout only, with other versions than
any measurement of an RTX 3090.
"""

import csv
import json
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from timm.layers import set_fused_attn

from benchmarks.budget.profile import DeviceProfile, read_profile
from benchmarks.budget.roofline import SEPARATOR
from benchmarks.studies.fit_public_profile import FILES, NUM_FOLDS, SOURCE, Step, parse_options, read_steps

INFERENCE = {card: f"benchmark-infer-amp-nhwc-pt240-cu124-{card}.csv" for card in ("rtx3090", "rtx4090")}
DERIVED = "derived from inference throughput, not validated for training"
RIDGE_PENALTY = 0.5  # pulls the ratio of a kind to that of all kinds

Ratios = dict[str, float]


def main() -> None:
    """Print the ratios and the error of the inference times, and write the profile."""
    options = parse_options(__doc__)
    set_fused_attn(enable=False)
    profile = read_profile("rtx3090")
    measured = inference_ratios(options.data)
    steps = [step for step in read_steps(options.data / FILES["nhwc"], options.cache) if step.name in measured]
    ratios = np.array([measured[step.name] for step in steps])
    shares = [time_shares(profile, step) for step in steps]
    errors = np.zeros(len(steps))
    folds = np.random.default_rng(0).permutation(len(steps)) % NUM_FOLDS
    for fold in range(NUM_FOLDS):
        fitted = fit_ratios([s for s, own in zip(shares, folds, strict=True) if own != fold], ratios[folds != fold])
        for number in np.flatnonzero(folds == fold):
            predicted = sum(share * fitted.get(kind, fitted[""]) for kind, share in shares[number].items())
            errors[number] = abs(predicted / ratios[number] - 1)
    fitted = fit_ratios(shares, ratios)
    print(f"{len(steps)} networks, inference ratios: median {np.median(errors):.3f}, {np.quantile(errors, 0.9):.3f}")
    print(json.dumps(fitted, indent=1))
    if options.out:
        options.out.write_text(json.dumps(asdict(derive(profile, fitted)), indent=1) + "\n")


def inference_ratios(folder: Path) -> dict[str, float]:
    """Return the seconds per image on an RTX 4090, relative to an RTX 3090, of each network at its largest size."""
    rates: list[dict[tuple[str, int], float]] = []
    for file in INFERENCE.values():
        with (folder / file).open(newline="") as lines:
            rows = list(csv.DictReader(lines))
        rates.append({(_name(row), int(row["infer_img_size"])): float(row["infer_samples_per_sec"]) for row in rows})
    slow, fast = rates
    return {name: slow[name, size] / fast[name, size] for name, size in sorted(slow.keys() & fast.keys())}


def _name(row: dict[str, str]) -> str:
    return row["model"].partition(".")[0]  # without the tag of the weights


def kind_of(load: str) -> str:
    """Return the general kind of a load: "flops, convolution, spatial" is "flops, convolution"."""
    return SEPARATOR.join(load.split(SEPARATOR)[:2])


def time_shares(profile: DeviceProfile, step: Step) -> dict[str, float]:
    """Return the share of each general kind of load in the predicted time of a step."""
    seconds: Counter[str] = Counter()
    for load, amount in step.loads.items():
        seconds[kind_of(load)] += amount * profile.seconds_per[load]  # type: ignore[assignment]
    return {kind: own / seconds.total() for kind, own in seconds.items()}


def fit_ratios(shares: list[dict[str, float]], ratios: NDArray[np.float64]) -> Ratios:
    """Fit a ratio to each kind by non-negative least squares on the relative errors; "" is that of all kinds."""
    from scipy.optimize import nnls

    kinds = sorted(set().union(*shares))
    overall = float(np.median(ratios))
    matrix = np.array([[own.get(kind, 0.0) for kind in kinds] for own in shares]) * overall / ratios[:, None]
    rows = np.vstack([matrix, RIDGE_PENALTY * np.eye(len(kinds))])
    targets = np.concatenate([np.ones(len(shares)), np.full(len(kinds), RIDGE_PENALTY)])
    solution = nnls(rows, targets)[0] * overall
    return {"": overall, **dict(zip(kinds, solution.tolist(), strict=True))}


def derive(profile: DeviceProfile, ratios: Ratios) -> DeviceProfile:
    """Return the profile of the other card."""
    return replace(
        profile,
        device="NVIDIA GeForce RTX 4090",
        median_error=None,
        worst_error=None,
        error_by_family={},
        seconds_per={
            load: seconds * ratios.get(kind_of(load), ratios[""]) for load, seconds in profile.seconds_per.items()
        },
        source=SOURCE
        | {"file": ", ".join(f"results/{file}" for file in (FILES["nhwc"], *INFERENCE.values()))}
        | {"script": "benchmarks/studies/derive_public_profile.py"},
        derived=DERIVED,
    )


if __name__ == "__main__":
    main()
