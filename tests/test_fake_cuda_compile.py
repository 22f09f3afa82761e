"""Compile a model for GPUs that do not exist. See `tests.fake_cuda.inductor`."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from arch.spec import parse
from tests.fake_cuda.device import DEVICE, fake_cuda
from tests.fake_cuda.training import DEFAULT_IMAGES

NUM_ASSEMBLED = 8  # kernels of each compute capability; all of them would take a minute

pytest.importorskip("triton", reason="Triton is not installed; it comes with the CUDA wheels of torch on Linux")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:dynamo_pgo force disabled")
def test_inductor_and_ptxas_compile_a_model_without_graph_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.fake_cuda.inductor import assemble, triton_kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    variant = replace(parse("resnet8+se+cbam+drop_path=0.2").variant(), depths=(1, 1), widths=(16, 32), strides=(1, 2))
    with fake_cuda():
        model = DEFAULT_IMAGES.build(variant).to(DEVICE).to(memory_format=torch.channels_last).train()
        images = DEFAULT_IMAGES.random(8).images.float()
        kernels = triton_kernels(model, images, torch.float16)
    assert any("native_batch_norm" in name for name in kernels)
    assert [name for name, source in kernels.items() if "fp64" in source] == []
    # The order in which atomic additions are executed is random.
    assert [name for name, source in kernels.items() if "'atomic_add_found': True" in source] == []
    chosen = dict(list(kernels.items())[:: len(kernels) // NUM_ASSEMBLED])
    for compute_capability in (86, 90):
        assert all(code.startswith(b"\x7fELF") for code in assemble(chosen, tmp_path, compute_capability))
