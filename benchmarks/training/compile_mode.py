"""Compile modes: run a model eagerly, compiled, or compiled and replayed as CUDA graphs.

torch is imported inside the functions because the parent process, which must not load torch, reads the constants.
"""

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import nn

CompileMode = Literal["eager", "compile", "cuda_graphs"]

# device type -> the compile modes that are timed against eager
COMPILED_MODES: dict[str, tuple[CompileMode, ...]] = {"cpu": ("compile",), "cuda": ("compile", "cuda_graphs")}
# compile mode -> the `mode` argument of `torch.compile`
TORCH_COMPILE_MODES: dict[CompileMode, str | None] = {"compile": None, "cuda_graphs": "reduce-overhead"}


def compile_model(model: "nn.Module", compile_mode: CompileMode) -> Callable[..., Any]:
    """Return a callable that computes the model's forward pass in the given compile mode.

    A compiled model is compiled at its first call, for the shape of that call. It shares its weights with `model`,
    which remains the one to evaluate and save.

    Args:
        model: The model, returned unchanged for "eager".
        compile_mode: How to run forward and backward passes.
    """
    if compile_mode == "eager":
        return model
    import torch
    import torch._dynamo.config as dynamo
    import torch._inductor.config as inductor
    from tqdm import tqdm

    # Without a GPU this logger warns about an installed CUDA toolkit.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    # The compiler's progress bar creates a semaphore, which a killed process would leave behind.
    tqdm.set_lock(threading.RLock())
    if hasattr(inductor, "deterministic"):
        # Kernels are not chosen by timing them, so that a resumed run gives the same numbers.
        inductor.deterministic = True
    # By default, torch silently runs the model eagerly beyond the recompile limit.
    dynamo.fail_on_recompile_limit_hit = True
    compiled: Callable[..., Any] = torch.compile(model, dynamic=False, mode=TORCH_COMPILE_MODES[compile_mode])
    return compiled


def shut_down_compile_workers() -> None:
    """Stop the compiler's worker processes, which are not needed after the first training step."""
    from torch._inductor.async_compile import shutdown_compile_workers

    shutdown_compile_workers()


def reset_compiler() -> None:
    """Free all compiled code of this process.

    The compiler counts all models of one class toward the same recompile limit, so the limit is reset as well.
    """
    import gc

    import torch

    torch.compiler.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def mark_step_begin(compile_mode: CompileMode) -> None:
    """Let CUDA graphs reuse the memory of the previous step's tensors."""
    if compile_mode == "cuda_graphs":
        import torch

        torch.compiler.cudagraph_mark_step_begin()
