import torch
from torch import Tensor, nn

from benchmarks.budget.tensor_memory import peak_tensor_memory

CPU = torch.device("cpu")


@torch.no_grad()
def test_weights_and_the_largest_set_of_live_tensors_are_counted() -> None:
    model = nn.Sequential(nn.Linear(8, 16, bias=False), nn.ReLU(), nn.Linear(16, 4, bias=False))
    peak = peak_tensor_memory(model, lambda: model(torch.zeros(10, 8)), CPU)
    assert peak == 4 * (8 * 16 + 16 * 4) + 4 * 10 * (8 + 16 + 16)  # the output is smaller than what is free by then


@torch.no_grad()
def test_views_and_changes_in_place_need_no_memory() -> None:
    def work() -> Tensor:
        return torch.zeros(10).relu_().add_(1).view(2, 5)

    assert peak_tensor_memory(nn.Identity(), work, CPU) == 4 * 10


@torch.no_grad()
def test_memory_does_not_depend_on_earlier_work() -> None:
    model = nn.Conv2d(1, 8, 3)
    peaks = [peak_tensor_memory(model, lambda: model(torch.zeros(4, 1, 8, 8)), CPU) for _ in range(2)]
    assert peaks[0] == peaks[1] == 4 * (8 * 9 + 8) + 4 * 4 * (8 * 8 + 8 * 6 * 6)


def test_sparse_tensors_are_accepted() -> None:
    adjacency = torch.eye(4).to_sparse()
    assert peak_tensor_memory(nn.Identity(), lambda: torch.sparse.mm(adjacency, torch.ones(4, 2)), CPU) >= 32
