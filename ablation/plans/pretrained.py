"""Weights from elsewhere that a plan names: known by their digest, and kept in the folder of the records."""

import re
import shutil
from pathlib import Path

from arch.errors import InputError
from benchmarks.definition.overrides import DIGEST, HUB, split_settings
from benchmarks.execution import local
from benchmarks.execution.progress import Display, Progress, Report
from benchmarks.records.atomic_write import replace_file
from benchmarks.records.paths import initial_file
from benchmarks.records.weights_file import check_weights, digest_of, header_of

INIT = re.compile(r"@init=(?P<value>(?:~/)?[^@(),>~]+)")
MODEL = re.compile(r"timm/([A-Za-z0-9_.]+)")
LONGEST = 10_000  # letters of a plan


def with_pretrained(plan: str, out: Path | None) -> str:
    """The plan with a digest for each file, or word, that says what weights a net starts from.

    out: where they are kept, so that a study can go on when the file is gone; None: nowhere.
    Raises InputError where there are none, or they cannot be had or kept.
    """

    if len(plan) > LONGEST:
        raise InputError(f"a plan of {len(plan):,} letters: at most {LONGEST:,} can be read")

    def digest(match: re.Match[str]) -> str:
        return f"@init={keep(match['value'].strip(), plan[: match.start()], out)}"

    return INIT.sub(digest, plan)


def resolve_pretrained(pretrained: str, out: Path) -> str:
    """What --pretrained says, as a plan can say it: a file's name may have letters that a plan has a use for."""
    return pretrained if pretrained.partition(":")[0] == HUB else keep(pretrained, "", out)


def keep(value: str, before: str, out: Path | None) -> str:
    """The digest of the weights that `value` names. before: the text that it stands behind."""
    if DIGEST.fullmatch(value) and not Path(value).exists():
        if out is not None and not initial_file(out, value).exists():
            raise InputError(f"{out / 'initial'} has no weights {value}: name their file, as in @init=FILE.safetensors")
        return value
    word, _, tag = value.partition(":")
    file = Path(value).expanduser() if value.startswith("~/") else Path(value)  # behind an = no shell has done it
    path = _from_hub(before, tag) if word == HUB else file
    check_weights(path)
    name = digest_of(path)
    if out is not None and not _is_kept(initial_file(out, name), name):
        try:
            replace_file(initial_file(out, name), lambda file: shutil.copyfile(path, file))
        except OSError as error:
            raise InputError(f"cannot keep {path} in --out {out}: {error.strerror or error}") from error
    return name


def _is_kept(file: Path, digest: str) -> bool:
    """Whether it is there already, and nobody has changed it."""
    return file.is_file() and digest_of(file) == digest


def recorded_net(word: str, out: Path) -> str:
    """A net as it is, where `word` is a file with the weights of an earlier run; any other word as it is."""
    if not word.endswith(".safetensors") or "@init=" in word:
        return word
    path = Path(word)
    spec = header_of(path).get("spec")
    if not isinstance(spec, str):
        raise InputError(f"{path} does not say which net it is of: SPEC@init={path}@epochs=0 does")
    return f"{split_settings(spec)[0]}@init={keep(word, '', out)}@epochs=0"


def _from_hub(before: str, tag: str) -> Path:
    depth = 0
    for place in range(len(before) - 1, -1, -1):  # back to where the net begins that it stands behind
        depth += (before[place] == ")") - (before[place] == "(")
        if depth < 0 or (depth == 0 and before[place] in ",>"):
            before = before[place + 1 :]
            break
    models = MODEL.findall(before.partition("@")[0])
    if not models:
        raise InputError("'@init=hub' stands behind a model of timm's, as in timm/resnet18@init=hub")
    name = f"{models[-1]}.{tag}" if tag else models[-1]
    with Display() as display:
        path: Path = local.call("ablation.plans.pretrained:fetch", display, name)
    return path


def fetch(report: Report, name: str) -> Path:
    """See `benchmarks.training.hub.fetch_weights`; in a child, as timm takes seconds to import."""
    from benchmarks.training.hub import fetch_weights

    report(Progress("fetching weights", 0, 1, name))
    return fetch_weights(name)
