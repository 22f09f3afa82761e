import timm

from arch.timm_names import registered_timm_names


def test_names_are_those_that_timm_registers() -> None:
    ours = {name for name in timm.list_models() if name.startswith("cifar_")}
    assert registered_timm_names() >= set(timm.list_models()) - ours
