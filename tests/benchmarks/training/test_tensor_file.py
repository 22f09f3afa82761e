import errno
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.training.tensor_file import read_tensors, write_tensors


def weights(value: int) -> dict[str, Tensor]:
    """Return 300 kB of weights."""
    return {"weight": torch.full((75_000,), float(value))}


def write_garbage(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 20)


def write_without_header(path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, path)


def write_pickle(path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, path)


def test_tensors_of_any_layout_are_read_back(tmp_path: Path) -> None:
    tensors = {"transposed": torch.arange(6.0).reshape(2, 3).T, "scalar": torch.tensor(7), "part": torch.arange(9)[::2]}
    write_tensors(tmp_path / "deep" / "file", tensors, {"spec": "resnet8"})
    read, header = read_tensors(tmp_path / "deep" / "file")
    torch.testing.assert_close(read, tensors)
    assert header == {"spec": "resnet8"}


def test_tensors_that_share_memory_are_read_back(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    tensors = {"whole": whole, "alias": whole, "row": whole[1], "rest": whole[1:], "column": whole[:, 1]}
    tensors |= {"expanded": whole[0].expand(2, 4), "empty": whole[:0], "same": whole[3:]}
    write_tensors(tmp_path / "file", tensors, {})
    read, _ = read_tensors(tmp_path / "file")
    assert read.keys() == tensors.keys()
    torch.testing.assert_close(read, tensors, rtol=0, atol=0)
    assert len({tensor.untyped_storage().data_ptr() for tensor in read.values() if tensor.numel()}) == 6


def test_view_of_a_large_tensor_takes_no_more_space_than_its_elements(tmp_path: Path) -> None:
    write_tensors(tmp_path / "file", {"view": torch.zeros(100_000)[5:7]}, {})
    assert (tmp_path / "file").stat().st_size < 1000


def test_writing_again_replaces_the_file(tmp_path: Path) -> None:
    for number in (1, 2):
        write_tensors(tmp_path / "file", weights(number), {"number": number})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert read_tensors(tmp_path / "file")[1] == {"number": 2}


@pytest.mark.parametrize("write", [write_garbage, write_without_header, write_pickle])
def test_files_of_other_programs_are_refused(write: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path / "file")
    with pytest.raises(ValueError, match=r"."):
        read_tensors(tmp_path / "file")


def test_truncated_file_is_refused(tmp_path: Path) -> None:
    write_tensors(tmp_path / "file", {"weight": torch.arange(64.0)}, {"spec": "resnet8"})
    content = (tmp_path / "file").read_bytes()
    for length in range(0, len(content), 29):
        (tmp_path / "file").write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"."):
            read_tensors(tmp_path / "file")


def test_header_that_is_not_json_is_refused_before_writing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_tensors(tmp_path / "file", {}, {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_full_disk_keeps_the_old_file(small_disk: Path, fill: Callable[[], Path]) -> None:
    path = small_disk / "weights" / "net.safetensors"
    write_tensors(path, weights(1), {"spec": "resnet8"})
    ballast = fill()
    with pytest.raises(OSError, match="No space left on device") as raised:
        write_tensors(path, weights(2), {"spec": "resnet8"})
    assert raised.value.errno == errno.ENOSPC
    assert str(path) in str(raised.value)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert torch.equal(read_tensors(path)[0]["weight"], weights(1)["weight"])
    ballast.unlink()
    write_tensors(path, weights(2), {"spec": "resnet8"})
    assert torch.equal(read_tensors(path)[0]["weight"], weights(2)["weight"])
