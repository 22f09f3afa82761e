"""Search strategies of other libraries, to be simulated on a `NasTable`: SMAC3 and DEHB.

SMAC3 is part of the development extra. DEHB requires NumPy 1 and therefore its own environment.
"""

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search.studies.nas_table import FULL, SHORT, Evaluations, NasTable

FORBIDDEN_COST = 100.0  # that of an accuracy of 0%, in percent


def smac(table: NasTable, seed: int) -> Evaluations:
    """Run SMAC3 with Hyperband (Lindauer et al. 2022, JMLR 23; its multi-fidelity facade)."""
    from ConfigSpace import ConfigurationSpace
    from smac import MultiFidelityFacade, Scenario
    from smac.runhistory.dataclasses import TrialValue

    logging.getLogger("smac").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        scenario = Scenario(
            ConfigurationSpace(_values(table), seed=seed),
            output_directory=Path(folder),
            deterministic=True,
            n_trials=10**6,
            min_budget=1,
            max_budget=table.ratio,
            seed=seed,
        )
        intensifier = MultiFidelityFacade.get_intensifier(scenario, eta=table.ratio)
        facade = MultiFidelityFacade(scenario, intensifier=intensifier, logging_level=False)
        while True:
            trial = facade.ask()
            model = table.find_allowed(trial.config)
            if model is None:
                yield None
                facade.tell(trial, TrialValue(FORBIDDEN_COST), save=False)
                continue
            accuracy = yield model, FULL if trial.budget == table.ratio else SHORT
            facade.tell(trial, TrialValue(100.0 - accuracy), save=False)


def dehb(table: NasTable, seed: int) -> Evaluations:
    """Run DEHB (Awad et al. 2021, arXiv:2105.09821)."""
    from ConfigSpace import ConfigurationSpace
    from dehb import DEHB
    from loguru import logger

    logger.remove()
    with tempfile.TemporaryDirectory() as folder:
        optimizer = DEHB(
            cs=ConfigurationSpace(_values(table), seed=seed),
            f=None,
            min_fidelity=1,
            max_fidelity=table.ratio,
            eta=table.ratio,
            n_workers=1,
            seed=seed,
            output_path=folder,
            save_freq=None,
        )
        while True:
            job = optimizer.ask()
            model = table.find_allowed(job["config"])
            cost = FORBIDDEN_COST
            if model is None:
                yield None
            else:
                cost = 100.0 - (yield model, FULL if job["fidelity"] == table.ratio else SHORT)
            optimizer.tell(job, {"fitness": cost, "cost": 1.0})


def _values(table: NasTable) -> Mapping[str, Any]:
    return {name: list(distribution.choices) for name, distribution in table.search_space.items()}
