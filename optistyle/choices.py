"""The words that settings accept, for modules that know them without loading torch.

The modules that implement a choice map its words to functions; tests hold both to each other.
"""

from __future__ import annotations

from collections.abc import Mapping

DEVICES = ("auto", "cpu", "cuda", "mps")
#: Precision of the convolutions -> the devices that compute in it.
PRECISIONS: Mapping[str, str] = {
    "float32": "everything",
    "tf32": "an NVIDIA GPU of compute capability 8.0 or more",
    "bfloat16": "an NVIDIA GPU of compute capability 8.0 or more, a CPU with AVX-512 or ARM's "
    "BF16, or MPS from macOS 14",
}
#: Encoders whose weights are packaged, installed or downloaded (see `encoders.weights`).
ENCODERS = ("auto", "slim", "vgg19", "vgg19-torchvision")
POOLINGS = ("average", "max", "l2")
#: ``reflect`` has cleaner borders; ``zeros`` is what the published networks were trained with.
PADDINGS = ("reflect", "zeros")
KERNELS = ("auto", "torch", "winograd")

SOLVERS = ("lbfgs", "adam")
STYLE_LOSSES = ("gram", "wasserstein")
ATTENTION_FORMS = ("gram", "local")
ATTENTIONS = ("sampled", "exact")
CENTRES = ("both", "none", "target")
TV_FORMS = ("squared", "l1")
COLOR_MODES = ("luminance", "histogram", "covariance")

#: Feed-forward models that paint in any style; a run can start from their picture.
WARM_STARTS = ("adain", "multiadain", "sanet", "adaattn", "magenta")
INITS = ("content", "style", "noise", "grey", *WARM_STARTS)
#: Feed-forward models that can be trained here -> whether a network learns one painting only.
TRAINABLE: Mapping[str, bool] = {
    "adain": False,
    "multiadain": False,
    "sanet": False,
    "adaattn": False,
    "adjustable": True,
    "johnson": True,
}

#: The most style positions that sampled attention reads at a layer: 256x256.
MOST_KEYS = 2**16
