"""Compile modes: compute training steps eagerly, with a compiled model, as a replayed CUDA graph, or both.

torch is imported inside the functions because the parent process, which must not load torch, reads the constants.
"""

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.definition.overrides import PREVIOUS, Distillation
from benchmarks.definition.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn

CompileMode = Literal["eager", "compile", "cuda_graphs", "compile_cuda_graphs"]

# device type -> the compile modes that are timed against eager
COMPILED_MODES: dict[str, tuple[CompileMode, ...]] = {
    "cpu": ("compile",),
    "cuda": ("cuda_graphs", "compile", "compile_cuda_graphs"),
}


class CompileModeFailed(RuntimeError):
    """Training steps cannot be computed in a compile mode, or it gives other numbers. The message is the reason."""


def uses_compiler(compile_mode: CompileMode) -> bool:
    """Return whether the model is compiled by torch.compile, which takes up to minutes."""
    return compile_mode.startswith("compile")


def uses_graph(compile_mode: CompileMode) -> bool:
    """Return whether the training step is captured as a CUDA graph, which takes about as long as ten steps."""
    return compile_mode.endswith("cuda_graphs")


def obstacle_to_capture(recipe: Recipe, distillation: Distillation | None) -> str:
    """Return why the training step cannot be captured as a CUDA graph, "" if nothing is known to prevent it.

    A graph repeats the numbers that the host computed during the capture, so no step may depend on others.
    """
    if recipe.world_size > 1:
        return "several devices share each batch"
    if recipe.mixes or recipe.erasing:
        return "mixup, cutmix and random erasing draw random numbers on the host"
    if distillation and (distillation.growing or distillation.teacher == PREVIOUS or distillation.method == "dkd"):
        return "the distillation loss changes from epoch to epoch"
    return ""


def obstacle_to_compilation(distillation: Distillation | None) -> str:
    """Return why the model cannot be compiled for training, "" if nothing is known to prevent it."""
    if distillation and distillation.method == "at":
        return "attention transfer reads the outputs of stages inside the model"
    return ""


def untimed_mode(device: str, recipe: Recipe) -> CompileMode:
    """Return the compile mode of runs that are not timed: the fastest one that needs no compiler.

    Args:
        device: "cpu", "cuda", "cuda:1"...
        recipe: The recipe of the runs, which have no teacher.
    """
    return "cuda_graphs" if device.startswith("cuda") and not obstacle_to_capture(recipe, None) else "eager"


def compile_model(model: "nn.Module", compile_mode: CompileMode) -> Callable[..., Any]:
    """Return a callable that computes the model's forward pass in the given compile mode.

    A compiled model is compiled at its first call, for the shape of that call. It shares its weights with `model`,
    which remains the one to evaluate and save.

    Args:
        model: The model, returned unchanged unless the compile mode uses the compiler.
        compile_mode: How to compute training steps.
    """
    if not uses_compiler(compile_mode):
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
    compiled: Callable[..., Any] = torch.compile(model, dynamic=False)
    return compiled


def shut_down_compile_workers() -> None:
    """Stop the compiler's worker processes, which are not needed after the first training step."""
    from torch._inductor.async_compile import shutdown_compile_workers

    shutdown_compile_workers()


def reset_compiler() -> None:
    """Free all compiled code of this process, and the memory of CUDA graphs that are not used any more.

    The compiler counts all models of one class toward the same recompile limit, so the limit is reset as well.
    """
    import gc

    import torch

    torch.compiler.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
