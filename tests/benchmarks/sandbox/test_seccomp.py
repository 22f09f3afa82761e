"""Tests of the compiled filter, run by a small interpreter of classic BPF."""

import errno
import struct

import pytest

from benchmarks.sandbox.seccomp import (
    ALLOW,
    AUDIT_ARCHITECTURES,
    CLONE,
    CLONE3,
    ERROR,
    KILL_PROCESS,
    REFUSED_CALLS,
    SOCKET,
    X32_BIT,
    seccomp_program,
)

MACHINES = list(AUDIT_ARCHITECTURES)
REFUSED = ERROR | errno.EPERM
GETPID = {"x86_64": 39, "aarch64": 172}
JUMPS = {0x15: lambda a, k: a == k, 0x35: lambda a, k: a >= k, 0x45: lambda a, k: a & k}


def run(machine: str, number: int, *arguments: int, architecture: int | None = None) -> int:
    """Return what the filter answers to a system call."""
    audit = AUDIT_ARCHITECTURES[machine] if architecture is None else architecture
    data = struct.pack("=IIQ6Q", number, audit, 0, *arguments, *[0] * (6 - len(arguments)))
    program = list(struct.iter_unpack("=HBBI", seccomp_program(machine)))
    position = value = 0
    while True:
        code, if_true, if_false, constant = program[position]
        position += 1
        if code == 0x20:
            value = struct.unpack_from("=I", data, constant)[0]
        elif code == 0x54:
            value &= constant
        elif code == 0x06:
            return int(constant)
        else:
            position += if_true if JUMPS[code](value, constant) else if_false


@pytest.mark.parametrize("machine", MACHINES)
def test_listed_calls_are_refused(machine: str) -> None:
    numbers = {name: pair[MACHINES.index(machine)] for name, pair in REFUSED_CALLS.items()}
    answers = {name: run(machine, number) for name, number in numbers.items() if number is not None}
    assert set(answers.values()) == {REFUSED}
    assert len(set(numbers.values()) - {None}) == len(answers)  # no number occurs twice


@pytest.mark.parametrize("machine", MACHINES)
def test_other_calls_are_allowed(machine: str) -> None:
    refused = {pair[MACHINES.index(machine)] for pair in REFUSED_CALLS.values()}
    others = set(range(500)) - refused - {CLONE3[MACHINES.index(machine)], SOCKET[MACHINES.index(machine)]}
    assert {run(machine, number) for number in others} == {ALLOW}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("flags", "expected"),
    [(17, ALLOW), (0x3D0F00, ALLOW), (0x20000, REFUSED), (0x10000011, REFUSED), (0x40000000, REFUSED)],
)  # fork, a thread, and new namespaces
def test_clone_cannot_create_namespaces(flags: int, expected: int, machine: str) -> None:
    assert run(machine, CLONE[MACHINES.index(machine)], flags) == expected
    assert run(machine, CLONE3[MACHINES.index(machine)], flags) == ERROR | errno.ENOSYS


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("family", "kind", "expected"),
    [
        (1, 1, ALLOW),
        (2, 1 | 0o2000000, ALLOW),  # SOCK_STREAM | SOCK_CLOEXEC
        (10, 2, ALLOW),
        (2, 3, REFUSED),
        (10, 3 | 0o4000, REFUSED),  # SOCK_RAW | SOCK_NONBLOCK
        (2, 10, REFUSED),
        (16, 3, REFUSED),  # AF_NETLINK
        (17, 2, REFUSED),  # AF_PACKET
        (40, 1, REFUSED),  # AF_VSOCK
        (38, 5, REFUSED),  # AF_ALG
    ],
)
def test_only_plain_sockets_are_allowed(family: int, kind: int, expected: int, machine: str) -> None:
    assert run(machine, SOCKET[MACHINES.index(machine)], family, kind) == expected


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_of_other_architectures_end_the_process(machine: str) -> None:
    assert run(machine, GETPID[machine]) == ALLOW
    assert run(machine, GETPID[machine], architecture=0x40000003) == KILL_PROCESS  # 32-bit x86
    assert run("x86_64", GETPID["x86_64"] | X32_BIT) == KILL_PROCESS


def test_unknown_machine_has_no_filter() -> None:
    assert seccomp_program("riscv64") == b""
