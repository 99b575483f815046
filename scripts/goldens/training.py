"""Goldens of training's parts: every schedule's rates, optimizer steps, clipping."""

import functools
import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, GPTJConfig, LlamaConfig, Trainer, get_scheduler
from transformers.optimization import Adafactor

from .case import config_text, move_by_a_rounding
from .collection import Collection

RATES = (5e-5, 1e-3)  # of two groups
STEPS = 40

# name: type, warm-up steps, whether the run's length is given, scheduler_specific_kwargs
SCHEDULES = {
    "linear": ("linear", 5, True, {}),
    "linear_without_warmup": ("linear", 0, True, {}),
    "cosine": ("cosine", 4, True, {}),
    "cosine_waves": ("cosine", 4, True, dict(num_cycles=1.25)),
    "cosine_with_restarts": ("cosine_with_restarts", 3, True, {}),
    "cosine_with_restarts_3": ("cosine_with_restarts", 3, True, dict(num_cycles=3)),
    "polynomial": ("polynomial", 6, True, {}),
    "polynomial_squared": ("polynomial", 2, True, dict(lr_end=1e-6, power=2.0)),
    "constant": ("constant", 0, False, {}),
    "constant_with_warmup": ("constant_with_warmup", 7, False, {}),
    "inverse_sqrt": ("inverse_sqrt", 5, False, {}),
    "inverse_sqrt_without_warmup": ("inverse_sqrt", 0, False, {}),
    "inverse_sqrt_timescale": ("inverse_sqrt", 5, False, dict(timescale=11)),
    "cosine_with_min_lr": ("cosine_with_min_lr", 5, True, dict(min_lr=1e-5)),
    "cosine_with_min_lr_rate": ("cosine_with_min_lr", 5, True, dict(min_lr_rate=0.1, num_cycles=0.75)),
    "cosine_warmup_with_min_lr": ("cosine_warmup_with_min_lr", 5, True, dict(min_lr=1e-5)),
    "cosine_warmup_with_min_lr_start": (
        "cosine_warmup_with_min_lr",
        5,
        True,
        dict(min_lr_rate=0.2, warmup_lr_rate=0.3),
    ),
    "warmup_stable_decay": ("warmup_stable_decay", 5, True, dict(num_decay_steps=10)),
    "warmup_stable_decay_cosine_sqrt": (
        "warmup_stable_decay",
        6,
        False,
        dict(num_decay_steps=9, num_stable_steps=7, warmup_type="cosine", decay_type="1-sqrt", min_lr_ratio=0.1),
    ),
    "warmup_stable_decay_sqrt_linear": (
        "warmup_stable_decay",
        6,
        True,
        dict(num_decay_steps=9, warmup_type="1-sqrt", decay_type="linear"),
    ),
    "reduce_lr_on_plateau": ("reduce_lr_on_plateau", None, False, dict(patience=2)),
    "reduce_lr_on_plateau_max": (
        "reduce_lr_on_plateau",
        None,
        False,
        dict(mode="max", patience=1, cooldown=3, factor=0.5, threshold=0.05, threshold_mode="abs", min_lr=1e-5),
    ),
    "greedy": ("greedy", None, False, dict(patience=1, min_lr=1e-5, factor=0.8)),
    "greedy_smooth": (
        "greedy",
        None,
        False,
        dict(patience=1, min_lr=4e-5, max_lr=2e-3, factor=0.5, smooth=True, window_size=3, cooldown=1, warmup=2),
    ),
    "greedy_reset": ("greedy", None, False, dict(patience=0, min_lr=2e-5, factor=0.3, reset_start=2, mode="max")),
}


def two_groups(make, generator=None, **options):
    shapes = ((4, 3), (3,)), ((2, 5),)
    groups = [
        dict(params=[torch.randn(shape, generator=generator).requires_grad_() for shape in group], lr=rate)
        for group, rate in zip(shapes, RATES)
    ]
    return make(groups, lr=RATES[0], **options)


def rates(optimizer) -> list:
    return [group["lr"] for group in optimizer.param_groups]


def schedules() -> Collection:
    collection = Collection()
    metrics = (3 * torch.exp(-torch.arange(STEPS) / 8) + torch.rand(STEPS, generator=torch.Generator().manual_seed(0))).double()
    for name, (kind, warmup, with_total, options) in SCHEDULES.items():
        optimizer = two_groups(torch.optim.SGD)
        scheduler = get_scheduler(kind, optimizer, warmup, STEPS if with_total else None, dict(options))
        follows = kind in ("reduce_lr_on_plateau", "greedy")
        found = [rates(optimizer)]
        for step in range(STEPS):
            optimizer.step()
            scheduler.step(metrics[step]) if follows else scheduler.step()
            found.append(rates(optimizer))
        collection.add(
            name,
            dict(rates=torch.tensor(found, dtype=torch.float64), metrics=metrics),
            type=kind,
            num_warmup_steps=warmup or 0,
            num_training_steps=STEPS if with_total else None,
            options=options,
        )
    return collection


OPTIMIZERS = {
    "adamw": (torch.optim.AdamW, dict(weight_decay=0.01)),
    "adamw_amsgrad": (torch.optim.AdamW, dict(amsgrad=True, betas=(0.8, 0.95), eps=1e-6)),
    "sgd": (torch.optim.SGD, {}),
    "sgd_momentum": (torch.optim.SGD, dict(momentum=0.9, dampening=0.1, weight_decay=0.1)),
    "sgd_nesterov": (torch.optim.SGD, dict(momentum=0.8, nesterov=True)),
    "adafactor": (Adafactor, dict(scale_parameter=False, relative_step=False)),
    "adafactor_scaled": (Adafactor, dict(relative_step=False, beta1=0.9, weight_decay=0.1)),
    "adafactor_relative": (Adafactor, dict(warmup_init=True)),
}


def relative_adafactor(groups: list, lr: float, **options) -> Adafactor:
    """It refuses a rate beside relative_step."""
    return Adafactor([dict(params=group["params"]) for group in groups], **options)


def optimizer_steps() -> Collection:
    """Six steps on given gradients; the second parameter has none in the third step."""
    collection = Collection()
    for name, (make, options) in OPTIMIZERS.items():
        generator = torch.Generator().manual_seed(1)
        optimizer = two_groups(relative_adafactor if name == "adafactor_relative" else make, generator, **options)
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        tensors = {f"initial.{i}": parameter.detach().clone() for i, parameter in enumerate(parameters)}
        for step in range(6):
            for i, parameter in enumerate(parameters):
                grad = torch.randn(parameter.shape, generator=generator)
                tensors[f"grad.{step}.{i}"] = grad
                parameter.grad = None if (step, i) == (2, 1) else grad.clone()
            optimizer.step()
            tensors |= {f"value.{step}.{i}": parameter.detach().clone() for i, parameter in enumerate(parameters)}
        collection.add(name, tensors, options=options)
    return collection


def clipping() -> Collection:
    collection = Collection()
    for name, max_norm in dict(above=1.0, below=1e3).items():
        generator = torch.Generator().manual_seed(2)
        parameters = [torch.zeros(shape).requires_grad_() for shape in ((3, 4), (5,), ())]
        grads = [torch.randn(parameter.shape, generator=generator) for parameter in parameters]
        for parameter, grad in zip(parameters, grads):
            parameter.grad = grad.clone()
        norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
        clipped = [parameter.grad for parameter in parameters]
        collection.add(name, dict(grad=grads, clipped=clipped, norm=norm), max_norm=max_norm)
    return collection


def decay() -> Collection:
    """Which parameters Trainer decays."""
    collection = Collection()
    configs = (
        LlamaConfig(vocab_size=11, hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2, attention_bias=True),
        GPTJConfig(vocab_size=11, n_embd=8, n_layer=2, n_head=2, rotary_dim=2),
    )
    for config in configs:
        model = AutoModelForCausalLM.from_config(config)
        names = Trainer.get_decay_parameter_names(None, model)
        collection.add(config.model_type, {}, config=json.loads(config_text(model)), names=sorted(names))
    return collection


FAMILIES = {
    "llama": LlamaConfig(
        vocab_size=24, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2
    ),
    "gptj": GPTJConfig(vocab_size=24, n_embd=16, n_layer=2, n_head=2, rotary_dim=4, n_inner=24, n_positions=32),
}

# name: options of a run of 20 steps; every schedule that needs no metric has one.
RUNS = {
    "full": dict(weight_decay=0.1),
    "accumulation": dict(gradient_accumulation_steps=3),
    "clipping": dict(max_grad_norm=0.3),
    "checkpointing": dict(gradient_checkpointing=True),
    "label_smoothing": dict(label_smoothing=0.1),
    **{
        kind: dict(lr_scheduler_type=kind, warmup_steps=3, scheduler_options=options)
        for kind, options in (
            ("linear", {}),
            ("cosine", {}),
            ("cosine_with_restarts", {}),
            ("polynomial", {}),
            ("constant_with_warmup", {}),
            ("inverse_sqrt", {}),
            ("cosine_with_min_lr", dict(min_lr_rate=0.1)),
            ("cosine_warmup_with_min_lr", dict(min_lr_rate=0.1)),
            ("warmup_stable_decay", dict(num_decay_steps=8)),
        )
    },
}
RUN_STEPS, RUN_BATCH = 20, 2


def run_data() -> tuple:
    """12 samples of 7 tokens; a part of the labels does not count, so that micro-batches weigh differently."""
    generator = torch.Generator().manual_seed(4)
    ids = torch.randint(24, (12, 7), generator=generator)
    labels = ids.masked_fill(torch.rand(ids.shape, generator=generator) < 0.3, -100)
    return ids, labels


def smoothed_loss(logits, labels, num_items: int, smoothing: float):
    """Trainer's LabelSmoother over the tokens of all micro-batches."""
    log_probs = -torch.nn.functional.log_softmax(logits[:, :-1].float(), dim=-1)
    targets = labels[:, 1:].unsqueeze(-1)
    ignored = targets.eq(-100)
    nll = log_probs.gather(-1, targets.clamp(min=0)).masked_fill(ignored, 0.0).sum()
    spread = log_probs.mean(-1, keepdim=True).masked_fill(ignored, 0.0).sum()
    return ((1 - smoothing) * nll + smoothing * spread) / num_items


def one_run(model, ids, labels, options: dict) -> dict:
    """The loop of HF's Trainer over samples in file order, beginning again at the first when they run out."""
    decayed = set(Trainer.get_decay_parameter_names(None, model))
    weight_decay = options.get("weight_decay", 0.0)
    groups = [
        dict(params=[p for n, p in model.named_parameters() if (n in decayed) == decay], weight_decay=weight_decay * decay)
        for decay in (True, False)
    ]
    optimizer = torch.optim.AdamW(groups, lr=5e-3)
    kind = options.get("lr_scheduler_type", "constant")
    scheduler = get_scheduler(
        kind, optimizer, options.get("warmup_steps", 0), RUN_STEPS, dict(options.get("scheduler_options", {}))
    )
    if options.get("gradient_checkpointing"):
        model.gradient_checkpointing_enable()
    accumulation, smoothing = options.get("gradient_accumulation_steps", 1), options.get("label_smoothing", 0.0)
    losses, norms, rates, place = [], [], [], 0
    for _ in range(RUN_STEPS):
        places = [[(place + micro * RUN_BATCH + i) % len(ids) for i in range(RUN_BATCH)] for micro in range(accumulation)]
        place += accumulation * RUN_BATCH
        num_items = sum((labels[rows][:, 1:] != -100).sum().item() for rows in places)
        total = 0.0
        for rows in places:
            if smoothing:
                loss = smoothed_loss(model(input_ids=ids[rows]).logits, labels[rows], num_items, smoothing)
            else:
                loss = model(input_ids=ids[rows], labels=labels[rows], num_items_in_batch=num_items).loss
            loss.backward()
            total += loss.item()
        rates.append(optimizer.param_groups[0]["lr"])
        max_norm = options.get("max_grad_norm", 1.0)
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm).item())
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        losses.append(total)
    return {name: torch.tensor(values, dtype=torch.float64) for name, values in dict(loss=losses, grad_norm=norms, learning_rate=rates).items()}


def build(family: str, weights: dict | None = None):
    """With weights of a size that gives every one a gradient well above its rounding."""
    config = type(FAMILIES[family])(**FAMILIES[family].to_dict() | {"initializer_range": 0.2})
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").train()
    if weights is not None:
        model.load_state_dict(weights)
    return model


def run_from(family: str, initial: dict, data: tuple, options: dict, neighbour: int = 0) -> dict:
    """Curve and final weights; with `neighbour` from weights that are a rounding away."""
    model = build(family, initial)
    if neighbour:
        move_by_a_rounding(model, neighbour)
    curve = one_run(model, *data, options)
    # The head takes part in every step; the other weights move by what reaches it.
    whole = "weight_decay" in options or "gradient_accumulation_steps" in options
    kept = model.state_dict() if whole else {"lm_head.weight": model.lm_head.weight}
    return curve | {f"final.{key}": tensor.detach().clone() for key, tensor in kept.items()}


def is_settled(found: dict, neighbour: dict) -> bool:
    """Whether a rounding of the start moves nothing by more than a quarter of what tests allow."""
    return all((found[key] - neighbour[key]).abs().max() <= 2.5e-6 * found[key].abs().max() for key in found)


@functools.cache
def settled_runs(family: str) -> tuple[dict, dict]:
    """The first seed's start from which no run hangs on rounding: Adam turns a gradient that is all rounding into whole
    steps, and what it then does no two programs have in common."""
    data = run_data()
    for seed in range(3, 100):
        torch.manual_seed(seed)
        initial = {name: tensor.clone() for name, tensor in build(family).state_dict().items()}
        found = {name: run_from(family, initial, data, options) for name, options in RUNS.items()}
        neighbours = ((found[name], run_from(family, initial, data, RUNS[name], i)) for i in (1, 2, 3) for name in RUNS)
        if all(is_settled(run, neighbour) for run, neighbour in neighbours):
            return initial, found
    raise RuntimeError(f"{family}: rounding decides the runs from every start")


def runs() -> dict:
    """A golden file a family: initial weights, data, and of each run its curve and the final weights."""
    collections = {}
    for family in FAMILIES:
        initial, found = settled_runs(family)
        collection = collections[family] = Collection()
        tensors = dict(zip(("input_ids", "labels"), run_data())) | {f"weights.{name}": tensor for name, tensor in initial.items()}
        collection.add("start", tensors, config=json.loads(config_text(build(family))))
        for name, options in RUNS.items():
            collection.add(name, found[name], options=options)
    return collections


def write(folder: Path) -> None:
    schedules().write(folder / "schedules.safetensors")
    optimizer_steps().write(folder / "optimizers.safetensors")
    decay().write(folder / "decay.safetensors")
    for family, collection in runs().items():
        collection.write(folder / f"runs_{family}.safetensors")
    clipping().write(folder / "clipping.safetensors")
