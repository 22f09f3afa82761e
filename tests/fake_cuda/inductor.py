"""Compile a training step for a GPU that does not exist: Dynamo, AOTAutograd, Inductor, Triton and ptxas.

Inductor writes its kernels as for a GPU, Triton and ptxas compile them, and nothing is launched.
"""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._dynamo.device_interface import CudaInterface
from torch._functorch._aot_autograd.utils import make_boxed_func
from torch._inductor import async_compile, compile_fx, config
from torch._inductor.runtime import triton_helpers, triton_heuristics

from tests.fake_cuda.device import DEVICE, always

# What Inductor asks about a GPU; the numbers are those of an H100.
PROPERTIES = SimpleNamespace(
    name="NVIDIA H100",
    major=9,
    minor=0,
    gcnArchName="",
    warp_size=32,
    multi_processor_count=132,
    max_threads_per_block=1024,
    max_threads_per_multi_processor=2048,
    regs_per_multiprocessor=65536,
    shared_memory_per_block=49152,
    shared_memory_per_block_optin=232448,
    shared_memory_per_multiprocessor=233472,
    total_memory=80 * 2**30,
    L2_cache_size=50 * 2**20,
    clock_rate=1_980_000,
    memory_clock_rate=2_619_000,
    memory_bus_width=5120,
)
BLOCK_SIZES = {"XBLOCK": 32, "YBLOCK": 32, "R0_BLOCK": 64, "RSPLIT_SIZE": 64, "NUM_STAGES": 1}
# The pattern matcher and the folding of constants run kernels.
CONFIG = {
    "compile_threads": 1,
    "deterministic": True,  # as in `benchmarks.training.compile_mode`
    "force_disable_caches": True,
    "joint_graph_constant_folding": False,
    "pattern_matcher": False,
    "shape_padding": False,
}
Kernels = dict[str, str]  # name -> Python source code of a Triton kernel


def triton_kernels(model: nn.Module, images: Tensor, dtype: torch.dtype) -> Kernels:
    """Return the Triton kernels of a forward and a backward pass, within `fake_cuda`.

    Args:
        model: A model on the fake GPU.
        images: A batch of normalized images.
        dtype: The type of autocast.
    """
    kernels: Kernels = {}

    def keep(_: Any, name: str, source: str, device_str: str = "cuda") -> SimpleNamespace:
        kernels[name] = source
        return SimpleNamespace(run=None)

    def compile_only(graph: torch.fx.GraphModule, inputs: Any, **options: Any) -> Callable[..., Any]:
        """Generate the code of a graph, and let the graph run in place of it."""
        compile_fx.compile_fx_inner(graph, inputs, **{**options, "cudagraphs": False})
        boxed: Callable[..., Any] = make_boxed_func(graph.forward)
        return boxed

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        return compile_fx.compile_fx(graph, inputs, inner_compile=compile_only)  # type: ignore[arg-type]  # returns no OutputCode

    with _fake_properties(), mock.patch.object(async_compile.AsyncCompile, "triton", keep):
        compiled = torch.compile(model, backend=backend, dynamic=False, fullgraph=True)
        with torch.autocast("cuda", dtype=dtype):
            logits = compiled(images)
        logits.float().logsumexp(1).sum().backward()
        torch.compiler.reset()
    return kernels


@contextmanager
def _fake_properties() -> Iterator[None]:
    """Answer what Inductor asks about the GPU."""
    import triton
    from triton.backends.compiler import GPUTarget

    answers: dict[str, Any] = {
        "_exchange_device": 0,
        "_get_device_properties": PROPERTIES,
        "_lazy_init": None,
        "_maybe_exchange_device": 0,
        "get_device_properties": PROPERTIES,
        "is_current_stream_capturing": False,
        "is_initialized": False,
    }
    driver = SimpleNamespace(
        get_active_torch_device=lambda: torch.device(DEVICE),
        get_current_device=lambda: 0,
        get_current_target=lambda: GPUTarget("cuda", 90, 32),
        get_device_interface=lambda: torch.cuda,
        is_active=lambda: True,
    )
    with ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, always(answer), create=True))
        for owner in (CudaInterface, CudaInterface.Worker):
            stack.enter_context(mock.patch.object(owner, "get_device_properties", staticmethod(lambda *_: PROPERTIES)))
        stack.enter_context(mock.patch.object(CudaInterface, "current_device", staticmethod(lambda: 0)))
        stack.enter_context(mock.patch.object(CudaInterface, "get_compute_capability", staticmethod(lambda *_: 90)))
        stack.enter_context(mock.patch.object(CudaInterface, "is_available", staticmethod(lambda: True)))
        stack.enter_context(mock.patch.object(torch.cuda.graphs, "is_current_stream_capturing", always(False)))
        stack.enter_context(mock.patch.object(triton.runtime.driver, "_active", driver))
        stack.enter_context(config.patch(CONFIG))
        yield


def assemble(kernels: Kernels, folder: Path, compute_capability: int) -> list[bytes]:
    """Compile kernels with Triton and ptxas, and return their machine code.

    Args:
        kernels: See `triton_kernels`.
        folder: Where to write the kernels' source code, which Triton reads from files.
        compute_capability: Such as 90 for an H100.
    """
    import triton
    from triton.backends.compiler import GPUTarget

    target = GPUTarget("cuda", compute_capability, 32)
    options = {"num_warps": 4}
    with _fake_properties(), ExitStack() as stack:
        stack.enter_context(mock.patch.object(triton_helpers, "set_driver_to_gpu", always(None)))
        for kind in ("pointwise", "reduction", "persistent_reduction"):
            stack.enter_context(mock.patch.object(triton_heuristics, kind, _with_metadata))
        functions = [_load(name, source, folder) for name, source in kernels.items()]
        return [
            triton.compile(_ast_source(function), target=target, options=options).asm["cubin"] for function in functions
        ]


def _with_metadata(size_hints: dict[str, int] | None = None, **metadata: Any) -> Callable[[Any], Any]:
    """Return a decorator in place of those that tune and launch kernels."""

    def decorate(function: Any) -> Any:
        function.metadata = {"size_hints": size_hints or {}, **metadata}
        return function

    return decorate


def _load(name: str, source: str, folder: Path) -> Any:
    path = folder / f"{name}.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def _ast_source(function: Any) -> Any:
    """Return the kernel with the types of its arguments, and with block sizes as constants."""
    import triton

    signature = function.metadata["triton_meta"]["signature"]
    reduced = function.metadata["size_hints"].get("r0_", 16)
    sizes = {**BLOCK_SIZES, "R0_BLOCK": max(16, min(BLOCK_SIZES["R0_BLOCK"], reduced))}
    constants = {
        (index,): sizes.get(argument, 1)
        for index, (argument, kind) in enumerate(signature.items())
        if kind == "constexpr"
    }
    return triton.compiler.ASTSource(fn=function, signature=signature, constexprs=constants)
