from benchmarks.training.seeds import derive_seed


def test_seeds_differ_for_different_purposes() -> None:
    seeds = [derive_seed(0), derive_seed(1), derive_seed(0, 1), derive_seed(0, 1, "images"), derive_seed(0, "layers")]
    seeds += [derive_seed(0, 1, "images", 1), derive_seed(0, 11), derive_seed(0, 1, 1), derive_seed(-1)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(0, 1, "images") == derive_seed(0, 1, "images")
