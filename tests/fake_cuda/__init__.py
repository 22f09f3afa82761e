"""Run code for CUDA on a computer without a GPU, with tensors that have a device, a type and strides, but no values.

`fake_cuda` replaces what needs a driver, and `Recorder` notes which operators reach the device. docs/contributing.md
describes what tests with them can find.
"""
