"""Learning rate and weight decay as functions of the step."""

from torch.optim import Optimizer

from ..methods.contract.progress import Lengths, Phase, elapsed_share
from ..nn.schedule import cosine
from ..recipe.optimization import scaled_lr


def learning_rate(
    settings, step: int, total_steps: int, steps_per_epoch: int, global_batch: int, lengths: Lengths = ()
) -> float:
    """Learning rate of a step: a linear warm-up from 0, then a half cosine to ``min_lr``, a constant, or drops.

    Where the length was changed on the way (``lengths``, see :class:`~hfcontrast.methods.base.Progress`), the cosine continues from where
    it stood; warm-up and drops are where they are.
    """
    peak = scaled_lr(settings.lr, settings.scale_lr, global_batch)
    warmup = min(warmup_steps(settings, steps_per_epoch, lengths[0][1] if lengths else total_steps), total_steps)
    if step < warmup:
        return peak * step / warmup
    if settings.schedule == "constant":
        return peak
    if settings.schedule == "drops":
        return peak * settings.lr_drop_factor ** sum(step >= epoch * steps_per_epoch for epoch in settings.lr_drops)
    if lengths:
        return cosine(peak, settings.min_lr, elapsed_share(step, lengths, warmup))
    return cosine(peak, settings.min_lr, (step - warmup) / max(total_steps - warmup, 1))


def warmup_steps(settings, steps_per_epoch: int, total_steps: int = 0) -> int:
    """Steps over which the learning rate rises; of a share, that of all steps that the run had first."""
    if settings.warmup_share is not None:
        return round(settings.warmup_share * total_steps)
    if settings.warmup_steps is not None:
        return settings.warmup_steps
    return round(settings.warmup_epochs * steps_per_epoch)


def schedule_phases(settings, steps_per_epoch: int) -> list[Phase]:
    """What happens at a certain step by a recipe's ``optim`` section: the end of the warm-up, and the drops."""
    named = "warmup_epochs" if settings.warmup_steps is None else "warmup_steps"
    phases = []
    if warmup := warmup_steps(settings, steps_per_epoch):
        otherwise = "the learning rate rises to the end and never follows its schedule"
        phases.append(Phase(f"optim.{named}", getattr(settings, named), warmup, otherwise))
    if frozen := settings.freeze_encoder_steps:
        phases.append(Phase("optim.freeze_encoder_steps", frozen, frozen, "the encoder is never trained"))
    for epoch in settings.lr_drops:
        phases.append(
            Phase("an epoch of optim.lr_drops", epoch, epoch * steps_per_epoch, "the learning rate does not drop there")
        )
    return phases


def weight_decay(settings, step: int, total_steps: int, lengths: Lengths = ()) -> float:
    """Weight decay of a step: constant, or a half cosine to ``weight_decay_end``."""
    if settings.weight_decay_end is None:
        return settings.weight_decay
    elapsed = elapsed_share(step, lengths) if lengths else step / total_steps
    return cosine(settings.weight_decay, settings.weight_decay_end, elapsed)


def set_schedules(
    optimizer: Optimizer,
    settings,
    step: int,
    total_steps: int,
    steps_per_epoch: int,
    global_batch: int,
    lengths: Lengths = (),
    factor: float = 1.0,
) -> float:
    """Sets both in the optimizer's groups, the learning rate times their ``lr_scale`` and a common factor; returns the learning rate."""
    lr = learning_rate(settings, step, total_steps, steps_per_epoch, global_batch, lengths) * factor
    decay = weight_decay(settings, step, total_steps, lengths)
    for group in optimizer.param_groups:
        base = lr if group["scheduled"] else scaled_lr(settings.lr, settings.scale_lr, global_batch) * factor
        group["lr"] = base * group.get("lr_scale", 1.0)  # groups of older checkpoints have none
        group["weight_decay"] = decay if group["decayed"] else 0.0
    return lr
