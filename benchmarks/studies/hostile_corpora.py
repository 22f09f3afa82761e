"""Check the attack files of scanners for pickles as hostile model files, and report how each check ends.

    pip download --no-deps --no-binary :all: --dest DIR picklescan fickling modelaudit
    python -m benchmarks.studies.hostile_corpora DIR/*.tar.gz

The files are never opened outside the sandbox. Each is checked as it is, and each pickle again as the content of a file
of torch.save. No check may end with a verdict on one of these pickles.

Read the reasons, not only the counts. The pickles of modelaudit 0.2.54 use protocols 4 and 5. As they are, they are
refused because torch.save did not write them; wrapped, because torch's reader of tensors does not support these
protocols, which holds for harmless pickles, too. So they do not test which classes and functions that reader allows;
`tests/benchmarks/sandbox/test_hostile_models.py` does. The source archives of picklescan 1.0.5 and fickling 0.1.12
contain no attack files.
"""

import sys
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from arch.errors import InputError
from arch.text import printable
from benchmarks.budget.model_kind import MODEL_FILE_SUFFIXES, PYTHON_SUFFIXES
from benchmarks.budget.request import CheckRequest
from benchmarks.definition.registry import get_benchmark
from benchmarks.execution.progress import silent
from benchmarks.sandbox.errors import FileCheckFailed, FileRefused
from benchmarks.sandbox.file_check import FilePolicy, check_file
from benchmarks.sandbox.kinds import best_sandbox
from benchmarks.sandbox.limits import SandboxLimits

PICKLE_SUFFIXES = (".pkl", ".pickle", ".joblib", ".dill", ".dat", ".data")
PAYLOAD_SUFFIXES = frozenset(
    {*PICKLE_SUFFIXES, *MODEL_FILE_SUFFIXES, ".h5", ".keras", ".npy", ".npz", ".zip", ".7z", ".pb", ".skops"}
    - {*PYTHON_SUFFIXES}
)
WRAPPED = " in torch.save"  # added to the name of a pickle
MAX_PAYLOAD_BYTES = 50 * 2**20
MAX_REASON_LENGTH = 110
CHECKS_AT_A_TIME = 2
TIME_LIMIT = 120.0  # seconds for each check


def main(archives: list[str]) -> int:
    """Check the files in source archives, print the outcomes, and return 1 if a pickle was given a verdict."""
    if best_sandbox() == "none":
        print("no sandbox works here (bubblewrap, sandlock)", file=sys.stderr)
        return 2
    with TemporaryDirectory() as folder:
        payloads = [payload for archive in archives for payload in write_payloads(Path(archive), Path(folder))]
        with ThreadPoolExecutor(CHECKS_AT_A_TIME) as pool:
            outcomes = list(pool.map(check_payload, [path for _, path in payloads]))
    for (name, _), (outcome, reason) in zip(payloads, outcomes, strict=True):
        print(f"{outcome:8} {printable(name)}: {printable(reason)[:MAX_REASON_LENGTH]}")
    print(", ".join(f"{count} {outcome}" for outcome, count in Counter(outcome for outcome, _ in outcomes).items()))
    names = [name for (name, _), (outcome, _) in zip(payloads, outcomes, strict=True) if outcome == "verdict"]
    return int(any(name.removesuffix(WRAPPED).endswith(PICKLE_SUFFIXES) for name in names))


def write_payloads(archive: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """Write the attack files of one archive under names of our own, and yield the original name and the path."""
    with tarfile.open(archive) as file:
        for member in file:
            suffix = PurePosixPath(member.name).suffix
            content = file.extractfile(member) if member.isfile() and suffix in PAYLOAD_SUFFIXES else None
            if content is None or member.size > MAX_PAYLOAD_BYTES:
                continue
            number = len(list(folder.iterdir()))
            path = folder / f"{number}{suffix if suffix in MODEL_FILE_SUFFIXES else '.pt'}"
            path.write_bytes(content.read())
            yield member.name, path
            if suffix in PICKLE_SUFFIXES:
                yield member.name + WRAPPED, wrap(path)


def wrap(path: Path) -> Path:
    """Write a pickle as the content of a file of torch.save, and return the path of that file."""
    wrapped = path.with_name(f"{path.stem}_wrapped.pt")
    with zipfile.ZipFile(wrapped, "w") as file:
        file.writestr("net/data.pkl", path.read_bytes())
        file.writestr("net/byteorder", "little")
        file.writestr("net/version", "3\n")
    return wrapped


def check_payload(path: Path) -> tuple[str, str]:
    """Check one file in the sandbox, and return how the check ended and why."""
    request = CheckRequest(str(path), get_benchmark("digits"), "cpu")
    try:
        verdict, _ = check_file(request, FilePolicy(SandboxLimits(TIME_LIMIT)), silent)
    except FileRefused as error:
        return "refused", str(error)
    except InputError as error:
        return "invalid", str(error)
    except FileCheckFailed as error:
        return "failed", str(error)
    return "verdict", verdict.line()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
