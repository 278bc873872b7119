"""The zoo: CNNs of torchvision and timm with random weights, each at a small input size.

Nothing is downloaded. `EXCLUDED` lists families that are not in the zoo, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compress.models import build as build_model

CLASSES = 1000


@dataclass(frozen=True)
class Network:
    """One network of the zoo.

    Attributes:
        name: as `compress.models.build` takes it.
        pixels: height and width of the input.
        sample: whether the test suite covers it without ``--zoo``.
    """

    name: str
    pixels: int = 64
    sample: bool = False


def _networks(library: str, names: str, pixels: int = 64) -> list[Network]:
    """Return one network per word; a word that ends in `*` is part of the sample."""
    return [Network(f"{library}/{word.rstrip('*')}", pixels, word.endswith("*")) for word in names.split()]


ZOO: tuple[Network, ...] = (
    *_networks("torchvision", "alexnet squeezenet1_0 squeezenet1_1"),
    *_networks("torchvision", "vgg11 vgg16_bn", 32),
    *_networks("torchvision", "resnet18* resnet34 resnet50 resnet152 resnext50_32x4d wide_resnet50_2"),
    *_networks("torchvision", "densenet121* densenet161 densenet169 densenet201 googlenet*"),
    *_networks("torchvision", "inception_v3", 96),
    *_networks("torchvision", "mobilenet_v2 mobilenet_v3_small* mobilenet_v3_large mnasnet0_5 mnasnet1_0"),
    *_networks("torchvision", "shufflenet_v2_x0_5* shufflenet_v2_x1_0 shufflenet_v2_x1_5 shufflenet_v2_x2_0"),
    *_networks("torchvision", "efficientnet_b0 efficientnet_b1 efficientnet_v2_s"),
    *_networks("torchvision", "regnet_x_400mf regnet_y_400mf convnext_tiny"),
    *_networks("timm", "bat_resnext26ts", 256),
    *_networks("timm", "resnet18d seresnet18 ecaresnet26t skresnet18* resnest14d* res2net50_14w_8s"),
    *_networks("timm", "gcresnext26ts resnetaa34d resnetblur18 resnetv2_18 resnetv2_50x1_bit"),
    *_networks("timm", "resnet50_gn legacy_seresnext26_32x4d nf_resnet26 nf_regnet_b0 eca_nfnet_l0"),
    *_networks("timm", "hrnet_w18_small dla34* dla46x_c ese_vovnet19b_slim_dw* vovnet39a ghostnet_050"),
    *_networks("timm", "ghostnetv2_100 repghostnet_050 mobileone_s0 repvgg_a0 repvit_m0_9 starnet_s1"),
    *_networks("timm", "fbnetc_100 fbnetv3_b mixnet_s tf_efficientnet_lite0 efficientnet_es lcnet_050*"),
    *_networks("timm", "lcnetv2_small hardcorenas_a tinynet_e rexnet_100 semnasnet_050 spnasnet_100"),
    *_networks("timm", "mobilenetv1_100 mobilenetv3_small_050 mobilenetv4_conv_small"),
    *_networks(
        "timm", "mobilenetv4_conv_aa_medium convnext_atto convnextv2_atto convmixer_768_32 fasternet_t0"
    ),
    *_networks("timm", "dpn48b dpn68 cspresnet50 cspdarknet53 cs3darknet_focus_s* darknet53 selecsls42b"),
    *_networks("timm", "xception41 legacy_xception inception_v4 inception_resnet_v2 pnasnet5large", 96),
    *_networks("timm", "regnetx_002 regnety_002 regnetz_005 regnetv_040 gernet_s hgnetv2_b0 hgnet_tiny"),
    *_networks(
        "timm",
        "tresnet_m edgenext_xx_small fastvit_t8 inception_next_atto rdnet_tiny mambaout_femto poolformer_s12",
    ),
)

EXCLUDED: dict[str, str] = {
    "timm/nasnetalarge": "pnasnet5large represents the family; 88 M parameters take minutes to trace",
    "timm/senet154": "legacy_seresnext26_32x4d has the same blocks",
    "timm/efficientnet_cc_b0_4e": "its weights are computed from each image, so nothing can be removed",
    "timm vision transformers": "not CNNs",
}
"""Networks that are not in the zoo, with the reason."""

HALF_OUT_OF_REACH: dict[str, str] = {
    "timm/hgnetv2_b0": "a learned offset after each activation makes a zero channel non-zero",
}
"""Networks of which less than half of the MACs can be removed exactly, with the reason."""


def build(network: Network, seed: int = 0) -> nn.Module:
    """Return the network in eval mode, with random weights that make wrong channels visible.

    Norms and layer scales get random values, because with their initial ones and zeros, channels could be
    exchanged unnoticed. Batch norms get the statistics of a random batch, so that activations stay in range.
    """
    torch.manual_seed(seed)
    model = build_model(network.name, CLASSES, (3, network.pixels, network.pixels))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.numel() == max(parameter.shape, default=1) or not bool(parameter.any()):
                _randomize(name, parameter)
        _estimate_batch_statistics(model, images(network, 8, seed))
    return model.eval()


def _randomize(name: str, parameter: Tensor) -> None:
    """Set scales, and parameters that were zero, to values around one, and biases to values around zero."""
    noise = torch.rand_like(parameter)
    if parameter.numel() > max(parameter.shape, default=1):
        parameter.copy_((noise - 0.5) / parameter[0].numel() ** 0.5)
    elif name.endswith(("bias", "beta")):
        parameter.copy_(0.4 * (noise - 0.5))
    else:
        parameter.copy_(0.5 + noise)


def _estimate_batch_statistics(model: nn.Module, batch: Tensor) -> None:
    """Set the running statistics of every batch norm from a batch, with some noise."""
    batch_norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    norms = [m for m in batch_norms if m.track_running_stats]
    momenta = [m.momentum for m in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    model.train()
    if norms:
        model(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        if norm.running_var is not None and norm.running_mean is not None:
            norm.running_var.mul_(0.5 + torch.rand_like(norm.running_var)).add_(0.05)
            norm.running_mean.add_(0.2 * (torch.rand_like(norm.running_mean) - 0.5))


def images(network: Network, count: int, seed: int = 0) -> Tensor:
    """Return random images, `[count, 3, pixels, pixels]`."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, network.pixels, network.pixels, generator=generator)


def find(name: str) -> Network:
    """Return the network with this name, which may omit the library.

    Raises:
        KeyError: the network is not in the zoo.
    """
    for network in ZOO:
        if name in (network.name, network.name.partition("/")[2]):
            return network
    raise KeyError(name)
