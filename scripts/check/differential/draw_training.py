"""Random short trainings of random tiny models. Everything a training does hangs on its seed."""

import dataclasses
import random

import torch

from .draw import CLASSES, attention_mask, gptj_config, hide_unattended, llama_config, position_ids
from goldens.case import randomise

SCHEDULES = [
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
]
LAYERS = {
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "gptj": ["q_proj", "k_proj", "v_proj", "out_proj", "fc_in", "fc_out"],
}


@dataclasses.dataclass
class Training:
    """A model, its samples (`columns`, [samples, seq] each) and the settings: options of `finetune` by their names."""

    seed: int
    family: str
    config: dict
    attn_implementation: str
    columns: dict
    settings: dict
    start: int  # seed of the weights

    def describe(self) -> dict:
        shapes = {name: str(tuple(tensor.shape)) for name, tensor in self.columns.items()}
        return dataclasses.asdict(dataclasses.replace(self, columns=shapes))


def model_config(rng: random.Random, family: str, length: int) -> dict:
    config = (gptj_config if family == "gptj" else llama_config)(rng, length)
    if config.get("attention_bias"):
        # Attention does not see what all keys share: without quick rotations the gradient of a key's bias is mostly
        # rounding, which Adam turns into whole steps.
        config["rope_parameters"] = {"rope_type": "default", "rope_theta": 4.0}
    return config | {"initializer_range": 0.2, "bos_token_id": 1, "eos_token_id": 2}


def labels(rng: random.Random, generator: torch.Generator, columns: dict, samples_of_step: int) -> torch.Tensor:
    """The ids, a part of them hidden: a micro-batch may have nothing to learn from, a step always has."""
    mask = columns.get("attention_mask", torch.ones_like(columns["input_ids"]))
    hidden = (torch.rand(mask.shape, generator=generator) < rng.choice([0.0, 0.3, 0.7])) | (mask == 0)
    drawn = hide_unattended(columns["input_ids"].masked_fill(hidden, -100), columns, shift=1)
    for row, seen in enumerate(mask):
        if samples_of_step > 1 and row % 2 and rng.random() < 0.2:
            drawn[row] = -100
        else:
            last = int(seen.nonzero().max())
            drawn[row, last] = columns["input_ids"][row, last]
    return drawn


def samples(
    rng: random.Random, generator: torch.Generator, family: str, config: dict, length: int, settings: dict
) -> dict:
    count, vocab = rng.randint(3, 14), config["vocab_size"]
    columns = {"input_ids": torch.randint(0, vocab, (count, length), generator=generator)}
    if rng.random() < 0.5:
        # A token that sees but itself has no gradient through its attention, so several stay.
        columns["attention_mask"] = attention_mask(rng, count, length, kept=4)
    if rng.random() < 0.2:
        columns["position_ids"] = position_ids(rng, count, length, 0, 3 * length)
    if family == "gptj" and rng.random() < 0.2:
        columns["token_type_ids"] = torch.randint(0, vocab, (count, length), generator=generator)
    samples_of_step = settings["batch_size"] * settings["gradient_accumulation_steps"]
    return columns | {"labels": labels(rng, generator, columns, samples_of_step)}


def lora_settings(rng: random.Random, family: str) -> dict:
    settings = {"lora_r": rng.randint(1, 6), "learning_rate": rng.choice([1e-3, 2e-3, 5e-3])}
    if rng.random() < 0.7:
        settings["lora_alpha"] = rng.choice([1, 5, 16, 2.5])
    if rng.random() < 0.7:
        settings["lora_targets"] = rng.sample(LAYERS[family], rng.randint(1, 4))
    return settings | ({"merge": True} if rng.random() < 0.3 else {})


def training_settings(rng: random.Random, family: str) -> dict:
    steps = rng.randint(5, 10)
    settings = {
        "max_steps": steps,
        "batch_size": rng.randint(1, 4),
        "gradient_accumulation_steps": rng.choice([1, 1, 2, 3]),
        "learning_rate": rng.choice([1e-4, 5e-4, 2e-3]),
        "lr_schedule": rng.choice(SCHEDULES),
        "warmup_steps": rng.choice([0, rng.randrange(1, steps)]),
        "weight_decay": rng.choice([0.0, 0.1, 0.5]),
        "max_grad_norm": rng.choice([0.0, 0.1, 1.0, 1.0]),
        "label_smoothing": rng.choice([0.0, 0.0, 0.1, 0.4]),
        "loss_chunk_rows": rng.choice([0, 0, 1, 3, 1000]),
    }
    if rng.random() < 0.3:
        settings["gradient_checkpointing"] = True
    return settings | (lora_settings(rng, family) if rng.random() < 0.4 else {})


def draw_training(seed: int, family: str) -> Training:
    rng, generator = random.Random(f"train {family} {seed}"), torch.Generator().manual_seed(seed)
    length = rng.randint(5, 12)
    config, settings = model_config(rng, family, length), training_settings(rng, family)
    return Training(
        seed=seed,
        family=family,
        config=config,
        attn_implementation=rng.choice(["eager", "sdpa"]) if family != "gptj" else "eager",
        columns=samples(rng, generator, family, config, length, settings),
        settings=settings,
        start=seed,
    )


def build_start(training: Training) -> torch.nn.Module:
    model_class = CLASSES[training.family]["causal-lm"]
    model = model_class(model_class.config_class(**training.config))
    randomise(model, torch.Generator().manual_seed(training.start))
    return model
