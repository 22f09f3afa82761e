"""What a model is: variants, the parts that change them, the spec language and the builders.

`arch.spec`, `arch.plans` and everything that they import load no torch.
"""
