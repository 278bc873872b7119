"""Settings of a training, validated; the same names in recipes, flags, run.json and `compress.train`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from compress.core.spec import Record


class TrainConfig(Record):
    """Settings of a training.

    Attributes:
        epochs: passes over the training images.
        batch_size: images per step, over all processes.
        lr: learning rate after the warm-up.
        momentum: momentum of SGD; first beta of AdamW and Adamax.
        weight_decay: L2 penalty (SGD, Adamax) or decoupled decay (AdamW).
        nesterov: Nesterov momentum (SGD only).
        optimizer: ``sgd``, ``adamw`` or ``adamax``.
        eps: epsilon in the denominator of AdamW and Adamax; None: the default of PyTorch.
        schedule: ``step``, ``cosine`` or ``constant``, after the warm-up.
        milestones: where ``step`` multiplies by `gamma`: below 1 a fraction of the epochs, else an epoch.
        gamma: factor of ``step``.
        min_lr: learning rate at the end of ``cosine``.
        anneal_epochs: epoch from which ``cosine`` stays at `min_lr`; None: the last.
        warmup_epochs: epochs (a fraction is allowed) in which the rate rises to `lr`.
        warmup_lr: learning rate of the first step.
        warmup: shape of the warm-up, ``linear`` or ``geometric``.
        label_smoothing: label smoothing of the cross-entropy.
        clip_grad: largest L2 norm of the gradients; None for no limit.
        ema: decay of the moving average of the weights, such as 0.999; None for none. The average is what is
            evaluated and saved.
        precision: ``fp32``, ``bf16`` or ``fp16`` (mixed; the weights stay float32).
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        seed: seed of all random numbers.
        channels_last: NHWC memory layout, which is faster for convolutions on CPUs and tensor cores.
        data_on_device: ``auto``: keep the images on the training device if they are in memory and fit;
            ``on``: keep them there or fail; ``off``: copy each batch.
        compile: ``auto``: on a GPU, measure some eager and compiled steps and steps with CUDA graphs, and use
            what is fastest over the epochs that are left; on a CPU, do not compile. ``on``: compile;
            ``cuda-graphs``: compile and record CUDA graphs; ``off``: do not compile.
        checkpoint_every: epochs between two checkpoints; the last epoch always has one.
        tensorboard: false: the same as ``track=none`` instead of ``tensorboard``.
        track: where metrics are logged besides `metrics.jsonl`: ``tensorboard``, ``wandb``, ``mlflow`` or
            ``none``.
        sync_bn: synchronize batch-norm statistics over processes: ``auto``: if several GPUs train; ``on``;
            ``off``.
    """

    epochs: int = Field(10, ge=1)
    batch_size: int = Field(128, ge=1)
    lr: float = Field(0.1, gt=0, allow_inf_nan=False)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0, allow_inf_nan=False)
    nesterov: bool = False
    optimizer: Literal["sgd", "adamw", "adamax"] = "sgd"
    eps: float | None = Field(None, gt=0)
    schedule: Literal["step", "cosine", "constant"] = "cosine"
    milestones: tuple[float, ...] = (0.5, 0.75)
    gamma: float = Field(0.1, gt=0, le=1)
    min_lr: float = Field(0.0, ge=0)
    anneal_epochs: float | None = Field(None, gt=0)
    warmup_epochs: float = Field(0.0, ge=0)
    warmup_lr: float | None = Field(None, gt=0)
    warmup: Literal["linear", "geometric"] = "linear"
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    clip_grad: float | None = Field(None, gt=0)
    ema: float | None = Field(None, gt=0, lt=1)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    seed: int = Field(0, ge=0, lt=2**32)
    channels_last: bool = True
    data_on_device: Literal["auto", "on", "off"] = "auto"
    compile: Literal["auto", "on", "cuda-graphs", "off"] = "auto"
    checkpoint_every: int = Field(1, ge=1)
    tensorboard: bool = True
    track: Literal["tensorboard", "wandb", "mlflow", "none"] = "tensorboard"
    sync_bn: Literal["auto", "on", "off"] = "auto"

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.nesterov and (self.optimizer != "sgd" or self.momentum == 0):
            raise ValueError("nesterov needs the optimizer sgd and a momentum above 0")
        if self.warmup_epochs and self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs:g} must be less than epochs {self.epochs}")
        if self.anneal_epochs is not None and not self.warmup_epochs < self.anneal_epochs <= self.epochs:
            raise ValueError(
                f"anneal_epochs {self.anneal_epochs:g} must be above warmup_epochs {self.warmup_epochs:g} "
                f"and at most epochs {self.epochs}"
            )
        if any(milestone <= 0 for milestone in self.milestones):
            raise ValueError(f"milestones {list(self.milestones)} must be above 0")
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr {self.min_lr:g} must not be above lr {self.lr:g}")
        if self.warmup_lr is not None and self.warmup_lr > self.lr:
            raise ValueError(f"warmup_lr {self.warmup_lr:g} must not be above lr {self.lr:g}")
        return self
