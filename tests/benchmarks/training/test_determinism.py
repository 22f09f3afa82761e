from collections.abc import Iterator

import pytest
import torch

from benchmarks.training.determinism import deterministically, make_deterministic, nondeterministic_operator


@pytest.fixture(autouse=True)
def _restore_settings() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)


def put_twice() -> bool:
    """Call an operator without a deterministic implementation, and return whether errors are warnings."""
    torch.zeros(3).put_(torch.tensor([1, 1]), torch.ones(2))
    return torch.is_deterministic_algorithms_warn_only_enabled()


def test_work_is_deterministic_if_all_operators_are() -> None:
    assert deterministically(torch.are_deterministic_algorithms_enabled)
    assert not torch.is_deterministic_algorithms_warn_only_enabled()  # so fused attention is deterministic on a GPU


@pytest.mark.filterwarnings("ignore:put_ does not have")
def test_work_is_repeated_without_errors_if_an_operator_is_not_deterministic() -> None:
    assert deterministically(put_twice)


def test_float32_is_not_rounded_to_tf32() -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    make_deterministic()
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == (False, False)


def test_other_errors_are_raised() -> None:
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        deterministically(fail)
    assert len(calls) == 1


def test_operator_is_named() -> None:
    make_deterministic()
    with pytest.raises(RuntimeError) as error:
        put_twice()
    assert nondeterministic_operator(error.value) == "put_"
    cublas = "this operation is not deterministic because it uses CuBLAS and you have CUDA >= 10.2"
    assert nondeterministic_operator(RuntimeError(cublas)) == "CuBLAS"
    assert nondeterministic_operator(RuntimeError("CUDA out of memory")) == ""
