"""How a net's forward and backward pass are executed: as written, compiled, or compiled and replayed as CUDA graphs.

Knows torch only when it is called.
"""

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import nn

CompileMode = Literal["eager", "compile", "cuda_graphs"]

COMPILED: dict[str, tuple[CompileMode, ...]] = {"cpu": ("compile",), "cuda": ("compile", "cuda_graphs")}  # to be tried
MODES: dict[CompileMode, str | None] = {"compile": None, "cuda_graphs": "reduce-overhead"}


def compile_model(model: "nn.Module", compile_mode: CompileMode) -> Callable[..., Any]:
    """The model as something to call; compiled at the first call, for the shape that it gets then.

    It shares its weights with `model`, which stays what is evaluated and saved.
    """
    if compile_mode == "eager":
        return model
    import torch
    import torch._dynamo.config as dynamo
    import torch._inductor.config as inductor
    from tqdm import tqdm

    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # a CUDA toolkit without a GPU is no trouble
    tqdm.set_lock(threading.RLock())  # the compiler's progress bar would leave a semaphore behind in a killed child
    if hasattr(inductor, "deterministic"):
        inductor.deterministic = True  # no kernel is chosen by timing it: a resumed run ends in the same numbers
    dynamo.fail_on_recompile_limit_hit = True  # otherwise it would run as written, without a word
    compiled: Callable[..., Any] = torch.compile(model, dynamic=False, mode=MODES[compile_mode])
    return compiled


def end_compiling() -> None:
    """Ends the processes that the compiler has kept at hand, once a whole step has been compiled."""
    from torch._inductor.async_compile import shutdown_compile_workers

    shutdown_compile_workers()


def forget_compiled() -> None:
    """Lets go of all that was compiled in this process: the compiler counts nets of one class as one, up to a limit."""
    import gc

    import torch

    torch.compiler.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def next_step(compile_mode: CompileMode) -> None:
    """Tells CUDA graphs that the tensors of the step before are needed no more."""
    if compile_mode == "cuda_graphs":
        import torch

        torch.compiler.cudagraph_mark_step_begin()
