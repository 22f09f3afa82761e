"""Imported once by the fork server of the worker processes, so that each worker starts in milliseconds."""

import warnings

warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)  # raised inside timm and fvcore
warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)

import torch.distributed  # noqa: E402
import torch.utils.flop_counter  # noqa: E402, F401
