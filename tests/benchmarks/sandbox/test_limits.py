import psutil

from benchmarks.sandbox.limits import SandboxLimits


def test_description() -> None:
    assert SandboxLimits(600, 3 * 2**29, 64).describe() == "600 s, 1.5 GiB, 64 processes"
    assert SandboxLimits(0.5, 2**30, 1).describe() == "0.5 s, 1.0 GiB, 1 processes"
    assert SandboxLimits(memory=3 * 2**29).describe_memory_limit() == "1.5 GiB (--memory-limit)"


def test_default_memory_limit_is_a_share_of_the_free_memory() -> None:
    assert 0 < SandboxLimits().with_memory_limit().memory < psutil.virtual_memory().total


def test_given_memory_limit_is_kept() -> None:
    assert SandboxLimits(7, 5, 3, 2).with_memory_limit() == SandboxLimits(7, 5, 3, 2)
