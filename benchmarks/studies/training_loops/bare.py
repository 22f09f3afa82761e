"""Forward pass, backward pass and update on prepared tensors: the minimum work of any training loop."""

from torch.nn import functional as F

from benchmarks.studies.training_loops.workload import EpochTimer, Workload
from benchmarks.training.augment import normalize
from benchmarks.training.step import autocast


def bare(workload: Workload, cudnn_benchmark: bool = False) -> EpochTimer:
    """Prepare a loop without shuffling, augmentation, learning rate schedule or accuracy.

    Args:
        workload: What to train.
        cudnn_benchmark: Whether cuDNN chooses the fastest algorithms by timing them.
    """
    recipe, model, scaler = workload.recipe, workload.model().train(), workload.scaler()
    optimizer = workload.optimizer(model)
    images, labels = workload.tensors()
    num_images = workload.steps * recipe.batch_size
    image_batches = normalize(images[:num_images], recipe.mean, recipe.std).split(recipe.batch_size)
    batches = list(zip(image_batches, labels[:num_images].split(recipe.batch_size), strict=True))

    def epoch() -> None:
        for batch, targets in batches:
            optimizer.zero_grad()
            with autocast(recipe, workload.device):
                loss = F.cross_entropy(model(batch), targets, label_smoothing=recipe.label_smoothing)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()

    return lambda: workload.time_with_torch_defaults(epoch, cudnn_benchmark)
