"""Imported once by the server that children are forked from (see `benchmarks.engine`)."""

import warnings

warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)  # timm and fvcore use it; our users cannot help it
warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)

import benchmarks.budget.check  # noqa: E402
import benchmarks.run  # noqa: E402, F401
