"""Model definitions: variants, the parts that change them, the spec language and the builders.

Importing `arch.spec` or `arch.plans` does not import torch.
"""
