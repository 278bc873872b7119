"""The settings of a training, validated; the same names in recipes, flags and run.json."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from compress.core.spec import Record


class TrainConfig(Record):
    """How to train.

    Attributes:
        epochs: passes over the training images.
        batch_size: images a step over all processes together.
        lr: learning rate after the warm-up.
        momentum: of SGD; the first beta of Adam's kin.
        weight_decay: L2 penalty (SGD, Adamax) or decoupled decay (AdamW).
        nesterov: Nesterov's momentum (SGD only).
        optimizer: ``sgd``, ``adamw`` or ``adamax``.
        eps: the denominator's epsilon of AdamW and Adamax; None for PyTorch's.
        schedule: ``step``, ``cosine`` or ``constant``, after the warm-up.
        milestones: where ``step`` multiplies by `gamma`: below 1 a fraction of the epochs, else an epoch.
        gamma: factor of ``step``.
        min_lr: learning rate at the end of ``cosine``.
        anneal_epochs: epoch at which ``cosine`` has come down and stays; None: the last.
        warmup_epochs: epochs (a fraction is allowed) in which the rate rises to `lr`.
        warmup_lr: learning rate of the first step.
        warmup: how it rises, ``linear`` or ``geometric``.
        label_smoothing: of the cross-entropy.
        clip_grad: largest L2 norm of the gradients; None for no limit.
        ema: decay of the moving average of the weights, such as 0.999; None for none. With an average, it is
            what is evaluated and what the training leaves in the model.
        precision: ``fp32``, ``bf16`` or ``fp16`` (mixed; the weights stay float32).
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        seed: of everything random.
        channels_last: NHWC in memory, which convolutions on CPUs and tensor cores like.
        data_on_device: ``auto``: hold the images on the device that trains if they are in memory and fit;
            ``on``: or fail; ``off``: copy each batch.
        compile: ``auto``: on a GPU, measure some steps as written, compiled and with CUDA graphs, and take
            what pays over the epochs that are left, and on a CPU do not compile; ``on``: compile;
            ``cuda-graphs``: and record CUDA graphs; ``off``.
        checkpoint_every: epochs between two checkpoints; the last epoch always has one.
        tensorboard: write TensorBoard's event files too.
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

    @model_validator(mode="after")
    def _agree(self) -> Self:
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
