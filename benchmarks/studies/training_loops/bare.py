"""Forward, backward and step on tensors that lie ready: the least that any training has to do."""

from torch.nn import functional as F

from benchmarks.studies.training_loops.workload import EpochTimer, Workload
from benchmarks.training.augment import normalize
from benchmarks.training.step import autocast


def bare(workload: Workload) -> EpochTimer:
    """No shuffling, no augmentation, no schedule, no accuracy."""
    recipe, model, scaler = workload.recipe, workload.net().train(), workload.scaler()
    optimizer = workload.optimizer(model)
    images, labels = workload.tensors()
    batches = list(
        zip(
            normalize(images[: workload.steps * recipe.batch_size], recipe.mean, recipe.std).split(recipe.batch_size),
            labels.split(recipe.batch_size),
            strict=False,
        )
    )

    def epoch() -> None:
        for batch, targets in batches:
            optimizer.zero_grad()
            with autocast(recipe, workload.device):
                loss = F.cross_entropy(model(batch), targets, label_smoothing=recipe.label_smoothing)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()

    return lambda: workload.time(epoch)
