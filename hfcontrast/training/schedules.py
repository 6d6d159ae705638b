"""Learning rate and weight decay as functions of the step."""

from torch.optim import Optimizer

from ..nn.schedule import cosine


def scaled_lr(lr: float, rule: str, global_batch: int) -> float:
    """Peak learning rate for a global batch, from a base rate.

    Args:
        lr: Base rate.
        rule: "linear": lr * batch / 256 (Goyal et al., 2017); "sqrt": lr * sqrt(batch) (SimCLR, appendix B.1); "none".
        global_batch: Samples of one optimizer step over all processes and accumulation.
    """
    return {"linear": lr * global_batch / 256, "sqrt": lr * global_batch**0.5, "none": lr}[rule]


def learning_rate(settings, step: int, total_steps: int, steps_per_epoch: int, global_batch: int) -> float:
    """Learning rate of a step: a linear warm-up from 0, then a half cosine to ``min_lr``, a constant, or drops."""
    peak = scaled_lr(settings.lr, settings.scale_lr, global_batch)
    warmup = settings.warmup_steps
    if warmup is None:
        warmup = round(settings.warmup_epochs * steps_per_epoch)
    warmup = min(warmup, total_steps)
    if step < warmup:
        return peak * step / warmup
    if settings.schedule == "constant":
        return peak
    if settings.schedule == "drops":
        return peak * settings.lr_drop_factor ** sum(step >= epoch * steps_per_epoch for epoch in settings.lr_drops)
    return cosine(peak, settings.min_lr, (step - warmup) / max(total_steps - warmup, 1))


def weight_decay(settings, step: int, total_steps: int) -> float:
    """Weight decay of a step: constant, or a half cosine to ``weight_decay_end``."""
    if settings.weight_decay_end is None:
        return settings.weight_decay
    return cosine(settings.weight_decay, settings.weight_decay_end, step / total_steps)


def set_schedules(
    optimizer: Optimizer, settings, step: int, total_steps: int, steps_per_epoch: int, global_batch: int
) -> float:
    """Sets both in the optimizer's groups; returns the learning rate."""
    lr = learning_rate(settings, step, total_steps, steps_per_epoch, global_batch)
    decay = weight_decay(settings, step, total_steps)
    for group in optimizer.param_groups:
        group["lr"] = lr if group["scheduled"] else scaled_lr(settings.lr, settings.scale_lr, global_batch)
        group["weight_decay"] = decay if group["decayed"] else 0.0
    return lr
