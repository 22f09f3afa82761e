# ruff: noqa: E402, F401
"""Imported once by the fork server of the worker processes, so that each worker starts in milliseconds.

Imports the third-party packages that training and budget checks use. Our own modules, which each worker imports itself,
then take about 0.1 s.
"""

import gc
import warnings

warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)  # raised inside timm and fvcore
warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
warnings.filterwarnings("ignore", category=RuntimeWarning, module="psutil")  # about files of /proc that a sandbox hides

import fvcore.nn
import numpy.typing
import psutil
import pydantic.type_adapter
import safetensors.torch
import timm.layers
import timm.scheduler
import torch.distributed
import torch.utils.flop_counter
import yaml

# Otherwise the garbage collector of each worker would traverse, and thereby copy, all modules of the server.
gc.freeze()
