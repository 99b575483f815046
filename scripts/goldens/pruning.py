"""Goldens of pruning: what torch.ao.pruning's structured pruner and torch.nn.utils.prune do.

linear, conv2d, activations and lstm.safetensors, a case: `weights.<name>` of the model, `input`, `masks.<tensor>` after one step,
`masked_output`, and where the reference is right `pruned.<name>` and `pruned_output`. Arguments: `layers` (of a Sequential, see `LAYERS`)
or `lstm`, `config`, `pruner`, `level`, `fault` (the fault of docs/pruning.md for which a case holds no pruned results).
unstructured.safetensors, a case: `weight` (or `weight.{i}`), `scores`, and `mask.{i}` after the i-th of `calls`.
"""

import copy
import itertools
import warnings
from pathlib import Path

import torch
from torch import nn
from torch.ao.pruning._experimental.pruner import FPGMPruner, LSTMSaliencyPruner, SaliencyPruner
from torch.nn.utils import prune

from . import inputs as make
from .collection import Collection

LAYERS = {
    "linear": lambda inputs, outputs, bias: nn.Linear(inputs, outputs, bias=bias),
    "conv2d": lambda inputs, outputs, kernel, padding, bias: nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=bias),
    "max_pool2d": lambda kernel, padding: nn.MaxPool2d(kernel, padding=padding),
    "avg_pool2d": lambda kernel, padding: nn.AvgPool2d(kernel, padding=padding),
    "adaptive_avg_pool2d": nn.AdaptiveAvgPool2d,
    "adaptive_max_pool2d": nn.AdaptiveMaxPool2d,
    "flatten": nn.Flatten,
    **{
        name.lower(): getattr(nn, name)
        for name in "CELU ELU GELU Hardshrink Hardtanh LeakyReLU LogSigmoid Mish PReLU ReLU ReLU6 RReLU SELU SiLU Sigmoid "
        "Softplus Softsign Tanh Tanhshrink".split()
    },
}
ZERO_AT_ZERO = {"celu", "elu", "gelu", "hardshrink", "hardtanh", "leakyrelu", "mish", "prelu", "relu", "relu6", "rrelu", "selu"}
ZERO_AT_ZERO |= {"silu", "softsign", "tanh", "tanhshrink"}

PRUNERS = {
    "saliency": lambda level: SaliencyPruner({"sparsity_level": level}),
    "lstm_saliency": lambda level: LSTMSaliencyPruner({"sparsity_level": level}),
    "fpgm_1": lambda level: FPGMPruner(level, dist=1),
    "fpgm_2": lambda level: FPGMPruner(level, dist=2),
}

B, N = True, False
IMAGE, FLAT = (2, 2, 8, 8), (3, 7)
# name: input shape, layers, indices of masked layers
SEQUENTIALS = {
    "linear_output": (FLAT, [["linear", 7, 4, B]], [0]),
    "linear_linear": (FLAT, [["linear", 7, 5, N], ["linear", 5, 6, N], ["linear", 6, 4, N]], [0, 1]),
    "linear_linear_last": (FLAT, [["linear", 7, 5, N], ["linear", 5, 6, N]], [0, 1]),
    "linear_bias": (
        FLAT,
        [["linear", 7, 5, B], ["linear", 5, 6, N], ["linear", 6, 3, B], ["linear", 3, 4, B], ["linear", 4, 5, N]],
        [0, 1, 2, 3],
    ),
    "linear_activation": (
        FLAT,
        [["linear", 7, 5, B], ["relu"], ["linear", 5, 6, N], ["tanh"], ["linear", 6, 4, B], ["relu"], ["linear", 4, 3, B]],
        [0, 2, 4],
    ),
    "conv2d_output": (IMAGE, [["conv2d", 2, 6, 3, 0, B]], [0]),
    "conv2d_conv2d": (IMAGE, [["conv2d", 2, 6, 3, 0, N], ["conv2d", 6, 5, 3, 0, N], ["conv2d", 5, 4, 3, 0, N]], [0, 1]),
    "conv2d_bias": (IMAGE, [["conv2d", 2, 6, 3, 0, B], ["conv2d", 6, 5, 3, 0, B], ["conv2d", 5, 4, 3, 0, N]], [0, 1]),
    "conv2d_activation": (
        IMAGE,
        [["conv2d", 2, 6, 3, 0, B], ["relu"], ["conv2d", 6, 5, 3, 0, B], ["tanh"], ["conv2d", 5, 4, 3, 0, N]],
        [0, 2],
    ),
    "conv2d_padded": (
        IMAGE,
        [["conv2d", 2, 6, 3, 1, B], ["relu"], ["conv2d", 6, 5, 3, 0, N], ["relu"], ["conv2d", 5, 4, 3, 1, B], ["relu"]]
        + [["conv2d", 4, 4, 3, 1, B], ["relu"], ["conv2d", 4, 5, 3, 0, B]],
        [0, 2, 4, 6],
    ),
    "conv2d_padded_without_bias": (IMAGE, [["conv2d", 2, 6, 3, 0, N], ["relu"], ["conv2d", 6, 5, 3, 1, B]], [0]),
    "conv2d_pool_activation": (
        IMAGE,
        [["conv2d", 2, 6, 3, 0, B], ["max_pool2d", 2, 0], ["relu"], ["conv2d", 6, 4, 2, 0, B]],
        [0],
    ),
    "conv2d_activation_pool": (
        IMAGE,
        [["conv2d", 2, 6, 3, 0, B], ["tanh"], ["avg_pool2d", 2, 0], ["conv2d", 6, 4, 2, 0, B]],
        [0],
    ),
    "conv2d_padded_pool": (
        IMAGE,
        [["conv2d", 2, 6, 3, 1, B], ["max_pool2d", 2, 1], ["relu"], ["conv2d", 6, 4, 3, 1, B]],
        [0],
    ),
    "conv2d_pool_flatten": (
        IMAGE,
        [["conv2d", 2, 6, 3, 0, B], ["adaptive_avg_pool2d", 2], ["flatten"], ["linear", 24, 5, B]],
        [0],
    ),
    "conv2d_max_pool_flatten": (
        IMAGE,
        [["conv2d", 2, 6, 3, 0, B], ["adaptive_max_pool2d", 1], ["flatten"], ["linear", 6, 5, N]],
        [0],
    ),
    "conv2d_pool_flatten_without_bias": (
        IMAGE,
        [["conv2d", 2, 6, 3, 0, N], ["adaptive_avg_pool2d", 2], ["flatten"], ["linear", 24, 5, B]],
        [0],
    ),
}


def fault(name: str, layers: list, masked: list, prune_bias: list) -> str | None:
    """Which of the reference's faults a case shows."""
    if name in ("linear_output", "conv2d_output") and not prune_bias[0]:
        return "2: the last layer loses its bias"
    if name == "conv2d_pool_flatten_without_bias":
        return "4: a convolution without bias fails"
    if any(not first and second for first, second in itertools.pairwise(prune_bias)):
        return "3: the propagated bias is dropped"
    for index, is_pruned in zip(masked, prune_bias):
        follower = layers[index + 1][0] if index + 1 < len(layers) else None
        if is_pruned and follower in LAYERS and follower not in ZERO_AT_ZERO and follower.endswith(("sigmoid", "softplus")):
            return "8: a pruned channel is not zero after the activation"
    return None


def randomize(model: nn.Module, seed: int) -> None:
    with torch.no_grad():
        for index, parameter in enumerate(model.parameters()):
            parameter.copy_(make.normal(*parameter.shape, seed=seed + index) * 0.5)


def masks_of(pruner) -> dict:
    return {f"masks.{name}": state["mask"] for name, state in pruner.state.items()}


def run(case: str, collection: Collection, model: nn.Module, example, config: list, pruner: str, level: float, wrong, **more):
    weights = {f"weights.{name}": tensor.clone() for name, tensor in model.state_dict().items()}
    sparsifier = PRUNERS[pruner](level)
    sparsifier.prepare(model, copy.deepcopy(config))
    sparsifier.step()
    tensors = weights | {"input": example} | masks_of(sparsifier)
    with torch.no_grad():
        tensors["masked_output"] = model(example)
    if wrong is None:
        pruned = sparsifier.prune()
        tensors |= {f"pruned.{name}": tensor for name, tensor in pruned.state_dict().items()}
        with torch.no_grad():
            tensors["pruned_output"] = pruned(example)
    collection.add(case, tensors, config=config, pruner=pruner, level=level, fault=wrong, **more)


def sequential_case(collection, name, shape, layers, masked, prune_bias, pruner="saliency", level=0.5) -> None:
    model = nn.Sequential(*(LAYERS[kind](*arguments) for kind, *arguments in layers)).eval()
    randomize(model, seed=20)
    config = [{"tensor_fqn": f"{index}.weight", "prune_bias": bias} for index, bias in zip(masked, prune_bias)]
    label = f"{name}.{pruner}.{''.join('pk'[not bias] for bias in prune_bias)}"
    wrong = fault(name, layers, masked, prune_bias)
    run(label, collection, model, make.normal(*shape, seed=5), config, pruner, level, wrong, layers=layers)


class LSTMLinear(nn.Module):
    def __init__(self, layers: int, norm: bool):
        super().__init__()
        self.lstm = nn.LSTM(5, 6, layers)
        if norm:
            self.norm = nn.LayerNorm(6)
        self.linear = nn.Linear(6, 4)
        self.has_norm = norm

    def forward(self, x):
        x, _ = self.lstm(x)
        return self.linear(self.norm(x) if self.has_norm else x)


def lstm_case(collection, layers: int, norm: bool) -> None:
    model = LSTMLinear(layers, norm).eval()
    randomize(model, seed=40)
    config = [{"tensor_fqn": f"lstm.weight_{kind}_l{layer}"} for layer in range(layers) for kind in ("ih", "hh")]
    name = f"lstm.{layers}.{'norm' if norm else 'plain'}"
    example = make.normal(3, 2, 5, seed=6)
    run(name, collection, model, example, config, "lstm_saliency", 0.5, None, lstm={"layers": layers, "norm": norm})


def write_sequential(folder: Path, kind: str) -> None:
    collection = Collection()
    for name, (shape, layers, masked) in SEQUENTIALS.items():
        if name.startswith(kind):
            for prune_bias in (True, False):
                sequential_case(collection, name, shape, layers, masked, [prune_bias] * len(masked))
    name = f"{kind}_activation"
    shape, layers, masked = SEQUENTIALS[name]
    for pruner, level in (("fpgm_1", 0.4), ("fpgm_2", 0.5), ("fpgm_2", 0.0)):
        sequential_case(collection, f"{name}.level_{level}", shape, layers, masked, [True] * len(masked), pruner, level)
    if kind == "linear":
        for prune_bias in ([True, False, True, False], [False, True, False, True]):
            sequential_case(collection, "linear_bias", *SEQUENTIALS["linear_bias"], prune_bias)
    collection.write(folder / f"{kind}.safetensors")


def write_activations(folder: Path) -> None:
    collection = Collection()
    for activation in sorted(ZERO_AT_ZERO | {"sigmoid", "softplus", "logsigmoid"}):
        layers = [["linear", 7, 5, B], [activation], ["linear", 5, 3, B]]
        for prune_bias in (True, False):
            sequential_case(collection, f"activation.{activation}", FLAT, layers, [0], [prune_bias])
    collection.write(folder / "activations.safetensors")


def write_lstm(folder: Path) -> None:
    collection = Collection()
    for layers, norm in itertools.product((1, 2), (False, True)):
        lstm_case(collection, layers, norm)
    collection.write(folder / "lstm.safetensors")


SEED = 11
# name: weight shape, calls of torch.nn.utils.prune in their order: function, its arguments
UNSTRUCTURED = {
    "identity": ((4, 6), [["identity", {}]]),
    "l1_fraction": ((4, 6), [["l1_unstructured", {"amount": 0.3}]]),
    "l1_half_to_even": ((2, 5), [["l1_unstructured", {"amount": 0.25}]]),
    "l1_count": ((4, 6), [["l1_unstructured", {"amount": 7}]]),
    "l1_none": ((4, 6), [["l1_unstructured", {"amount": 0}]]),
    "l1_all": ((4, 6), [["l1_unstructured", {"amount": 1.0}]]),
    "l1_scores": ((4, 6), [["l1_unstructured", {"amount": 0.5, "scores": True}]]),
    "random_fraction": ((4, 6), [["random_unstructured", {"amount": 0.4}]]),
    "random_count": ((5, 7, 3), [["random_unstructured", {"amount": 31}]]),
    "random_rows": ((6, 5), [["random_structured", {"amount": 0.5, "dim": 0}]]),
    "random_columns": ((4, 8), [["random_structured", {"amount": 3, "dim": -1}]]),
    "random_channels": ((4, 6, 3, 3), [["random_structured", {"amount": 2, "dim": 1}]]),
    "ln_1_rows": ((6, 5), [["ln_structured", {"amount": 0.5, "n": 1, "dim": 0}]]),
    "ln_2_columns": ((6, 5), [["ln_structured", {"amount": 2, "n": 2, "dim": 1}]]),
    "ln_inf": ((4, 6, 3, 3), [["ln_structured", {"amount": 0.4, "n": "inf", "dim": 1}]]),
    "ln_minus_inf": ((4, 6, 3, 3), [["ln_structured", {"amount": 0.4, "n": "-inf", "dim": -1}]]),
    "ln_scores": ((6, 5), [["ln_structured", {"amount": 0.5, "n": 2, "dim": 0, "scores": True}]]),
    "iterated_l1": ((6, 8), [["l1_unstructured", {"amount": 0.5}]] * 3),
    "iterated_random": ((6, 8), [["random_unstructured", {"amount": 0.3}]] * 3),
    "iterated_rows": (
        (8, 6),
        [
            ["ln_structured", {"amount": 0.25, "n": 2, "dim": 0}],
            ["random_structured", {"amount": 2, "dim": 0}],
            ["l1_unstructured", {"amount": 0.5}],
            ["ln_structured", {"amount": 0.5, "n": 1, "dim": 1}],
        ],
    ),
    "custom_after_l1": ((4, 6), [["l1_unstructured", {"amount": 0.3}], ["custom_from_mask", {}]]),
}
GLOBAL = {
    "global_l1": [["L1Unstructured", {"amount": 0.4}]],
    "global_l1_count": [["L1Unstructured", {"amount": 13}]],
    "global_random": [["RandomUnstructured", {"amount": 0.4}]],
    "global_iterated": [["L1Unstructured", {"amount": 0.4}], ["L1Unstructured", {"amount": 0.5}]],
    "global_scores": [["L1Unstructured", {"amount": 0.4, "scores": True}]],
}


class Holder(nn.Module):
    def __init__(self, weight: torch.Tensor):
        super().__init__()
        self.weight = nn.Parameter(weight.clone())


def single_case(collection: Collection, name: str, shape: tuple, calls: list) -> None:
    weight, scores = make.normal(*shape, seed=7), make.normal(*shape, seed=8).abs()
    mask = (make.normal(*shape, seed=9) > 0).float()
    module, results = Holder(weight), []
    torch.manual_seed(SEED)
    for function, arguments in calls:
        given = {key: float(value) if key == "n" else value for key, value in arguments.items() if key != "scores"}
        given |= {"importance_scores": scores} if "scores" in arguments else {}
        given |= {"mask": mask} if function == "custom_from_mask" else {}
        getattr(prune, function)(module, "weight", **given)
        results.append(module.weight_mask.clone())
    tensors = {"weight": weight, "scores": scores, "custom": mask, "mask": results, "pruned": module.weight}
    collection.add(name, tensors, calls=calls, seed=SEED)


def global_case(collection: Collection, name: str, calls: list) -> None:
    weights = [make.normal(4, 6, seed=7), make.normal(3, 5, seed=8) * 2]
    scores = [make.normal(4, 6, seed=9).abs(), make.normal(3, 5, seed=10).abs()]
    modules = [Holder(weight) for weight in weights]
    torch.manual_seed(SEED)
    for method, arguments in calls:
        given = {(module, "weight"): score for module, score in zip(modules, scores)} if "scores" in arguments else None
        parameters = [(module, "weight") for module in modules]
        prune.global_unstructured(parameters, getattr(prune, method), given, amount=arguments["amount"])
    masks = [module.weight_mask for module in modules]
    collection.add(name, {"weight": weights, "scores": scores, "mask": masks}, calls=calls, seed=SEED)


def write_unstructured(folder: Path) -> None:
    collection = Collection()
    for name, (shape, calls) in UNSTRUCTURED.items():
        single_case(collection, name, shape, calls)
    for name, calls in GLOBAL.items():
        global_case(collection, name, calls)
    collection.write(folder / "unstructured.safetensors")


def write(folder: Path) -> None:
    warnings.filterwarnings("ignore", message="Converting a tensor with requires_grad=True")
    write_sequential(folder, "linear")
    write_sequential(folder, "conv2d")
    write_activations(folder)
    write_lstm(folder)
    write_unstructured(folder)
