"""Sessions on a GPU that is available for minutes: `benchmarks/studies/gpu.sh` (docs/gpu_sessions.md).

`__main__`, `options`, `environment`, `transfer` and `unpack` import only the standard library and Pillow, because they
install the packages that everything else needs.
"""
