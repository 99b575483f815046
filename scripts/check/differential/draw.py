"""Random tiny models, inputs and ways to save them. Everything a trial does hangs on its seed."""

import dataclasses
import random

import torch
import transformers

from goldens.case import randomise
from goldens.gptj import GPTJForTokenClassification

CLASSES = {
    "llama": {
        "base": transformers.LlamaModel,
        "causal-lm": transformers.LlamaForCausalLM,
        "sequence-classification": transformers.LlamaForSequenceClassification,
        "question-answering": transformers.LlamaForQuestionAnswering,
        "token-classification": transformers.LlamaForTokenClassification,
    },
    "gptj": {
        "base": transformers.GPTJModel,
        "causal-lm": transformers.GPTJForCausalLM,
        "sequence-classification": transformers.GPTJForSequenceClassification,
        "question-answering": transformers.GPTJForQuestionAnswering,
        "token-classification": GPTJForTokenClassification,
    },
}
TASKS = ["causal-lm"] * 4 + ["base", "sequence-classification", "question-answering", "token-classification"]
ACTIVATIONS = ["silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "quick_gelu", "tanh"]
FORMATS = ["safetensors"] * 3 + ["sharded", "bin", "sharded bin"]


@dataclasses.dataclass
class Trial:
    """One configuration with its inputs; `tensors` are the forward arguments, `options` what is no tensor."""

    seed: int
    family: str
    task: str
    config: dict
    dtype: torch.dtype
    attn_implementation: str
    save_format: str
    use_cache: bool
    tensors: dict
    generate: dict

    def describe(self) -> dict:
        shapes = {name: f"{tuple(tensor.shape)} {tensor.dtype}" for name, tensor in self.tensors.items()}
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value if isinstance(value, (int, dict)) else str(value) for name, value in fields.items()} | {
            "tensors": shapes
        }


def rope_parameters(rng: random.Random, length: int, half: int) -> tuple[dict, int]:
    """Parameters and max_position_embeddings; the lengths lie on both sides of the limits."""
    kind = rng.choice(["default", "default", "linear", "dynamic", "yarn", "longrope", "llama3"])
    parameters = {"rope_type": kind, "rope_theta": rng.choice([100.0, 10000.0, 500000.0])}
    original = rng.choice([length // 2 + 1, length + 5])
    if kind != "default":
        parameters["factor"] = rng.choice([1.5, 2.0, 8.0])
    if kind in ("yarn", "longrope", "llama3"):
        parameters["original_max_position_embeddings"] = original
    if kind == "longrope":
        parameters["short_factor"] = [1.0 + rng.random() for _ in range(half)]
        parameters["long_factor"] = [1.0 + 5 * rng.random() for _ in range(half)]
    if kind == "llama3":
        parameters |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    return parameters, original if kind == "dynamic" else max(64, 4 * original)


def llama_config(rng: random.Random, length: int) -> dict:
    heads = rng.choice([1, 2, 3, 4, 6])
    hidden = heads * rng.choice([2, 4, 6, 8])
    head_dim = rng.choice([None, None, 4, 8, 10])
    # dynamic NTK raises theta to dim / (dim − 2)
    if (head_dim or hidden // heads) == 2:
        head_dim = 4
    parameters, maximum = rope_parameters(rng, length, (head_dim or hidden // heads) // 2)
    return dict(
        vocab_size=rng.randint(30, 80),
        hidden_size=hidden,
        intermediate_size=rng.randint(3, 40),
        num_hidden_layers=rng.randint(1, 3),
        num_attention_heads=heads,
        num_key_value_heads=rng.choice([None] + [n for n in range(1, heads + 1) if heads % n == 0]),
        head_dim=head_dim,
        hidden_act=rng.choice(ACTIVATIONS),
        attention_bias=rng.random() < 0.3,
        mlp_bias=rng.random() < 0.3,
        tie_word_embeddings=rng.random() < 0.3,
        rms_norm_eps=rng.choice([1e-6, 1e-5, 1e-2]),
        max_position_embeddings=maximum,
        rope_parameters=parameters,
    )


def gptj_config(rng: random.Random, length: int) -> dict:
    heads, size = rng.choice([1, 2, 3, 4]), rng.choice([4, 6, 8, 16])
    return dict(
        vocab_size=rng.randint(30, 80),
        n_embd=heads * size,
        n_inner=rng.choice([None, rng.randint(3, 40)]),
        n_layer=rng.randint(1, 3),
        n_head=heads,
        n_positions=rng.choice([3 * length + 18, 512]),
        rotary_dim=rng.choice(range(2, size + 1, 2)),
        activation_function=rng.choice(ACTIVATIONS),
        layer_norm_epsilon=rng.choice([1e-5, 1e-2]),
        tie_word_embeddings=rng.random() < 0.2,
    )


def attention_mask(rng: random.Random, batch: int, length: int, kept: int = 2) -> torch.Tensor:
    """1 = attend; padding left, right or in the middle. `kept` tokens at least stay: a label needs a row that predicts it."""
    mask = torch.ones(batch, length, dtype=torch.long)
    kind = rng.choice(["left", "right", "holes", "full"])
    for row in range(batch):
        count = rng.randrange(length + 1 - kept)
        if kind == "left":
            mask[row, :count] = 0
        elif kind == "right":
            mask[row, length - count :] = 0
        elif kind == "holes":
            mask[row, rng.sample(range(1, length), count)] = 0
    return mask


def four_dimensional(
    rng: random.Random, generator: torch.Generator, batch: int, length: int, past: int
) -> torch.Tensor:
    """Random rows that all see the first token: additive floats, or a bool."""
    seen = torch.rand(batch, 1, length, past + length, generator=generator) < 0.6
    seen[..., 0] = True
    if rng.random() < 0.5:
        return seen
    return torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)


def labels(
    rng: random.Random, generator: torch.Generator, task: str, config: dict, tensors: dict, batch: int, length: int
) -> dict:
    if task == "causal-lm":
        drawn = torch.randint(0, config["vocab_size"], (batch, length), generator=generator)
        drawn[torch.rand(drawn.shape, generator=generator) < 0.2] = -100
        drawn[:, -1] = 1  # without any label the mean is no number
        return {"labels": hide_unattended(drawn, tensors, shift=1)}
    if task == "token-classification":
        drawn = torch.randint(0, config["num_labels"], (batch, length), generator=generator)
        return {"labels": hide_unattended(drawn, tensors, shift=0)}
    if task == "question-answering":
        ends = torch.randint(0, length, (2, batch), generator=generator)
        return {"start_positions": ends[0], "end_positions": ends[1]}
    if task == "sequence-classification":
        count, problem = config["num_labels"], config["problem_type"]
        if problem == "single_label_classification":
            return {"labels": torch.randint(0, count, (batch,), generator=generator)}
        drawn = torch.randn(batch, count, generator=generator)
        return {"labels": drawn.squeeze(-1) if problem == "regression" else (drawn > 0).float()}
    return {}


def unattended(mask: torch.Tensor | None, batch: int, length: int) -> torch.Tensor:
    """[batch, length]: query rows that may look at nothing. What they become is nobody's promise."""
    if mask is None or mask.dim() != 2:
        return torch.zeros(batch, length, dtype=torch.bool)
    return (mask.cumsum(-1) == 0)[:, mask.shape[1] - length :]


def hide_unattended(drawn: torch.Tensor, tensors: dict, shift: int) -> torch.Tensor:
    """No label may depend on a query row that looks at nothing: row t predicts the label at t + shift."""
    empty = unattended(tensors.get("attention_mask"), *drawn.shape)
    drawn[torch.roll(empty, shift, dims=1) if shift else empty] = -100
    return drawn


def head_settings(rng: random.Random, task: str) -> dict:
    if task == "sequence-classification":
        problem = rng.choice(["single_label_classification", "multi_label_classification", "regression"])
        count = rng.choice([1, 3]) if problem == "regression" else rng.choice([2, 3, 5])
        return {"num_labels": count, "problem_type": problem, "pad_token_id": 0}
    return {"num_labels": rng.randint(2, 5)} if task == "token-classification" else {}


def sizes(family: str, config: dict) -> tuple[int, int, int, int]:
    """(hidden, layers, key/value heads, head size)"""
    if family == "gptj":
        return config["n_embd"], config["n_layer"], config["n_head"], config["n_embd"] // config["n_head"]
    heads = config["num_attention_heads"]
    size = config["head_dim"] or config["hidden_size"] // heads
    return config["hidden_size"], config["num_hidden_layers"], config["num_key_value_heads"] or heads, size


def position_ids(rng: random.Random, batch: int, length: int, past: int, limit: int) -> torch.Tensor:
    if rng.random() < 0.5 and past == 0:  # packed rows
        cut = rng.randrange(length)
        return torch.cat([torch.arange(cut), torch.arange(length - cut)]).expand(batch, length).clone()
    start = rng.randrange(max(1, limit - length - past))
    return (torch.arange(length) + start + past).expand(batch, length).clone()


def forward_tensors(rng, generator, family: str, task: str, config: dict, batch: int, length: int) -> dict:
    hidden, layers, heads, size = sizes(family, config)
    tensors, past = {}, 0
    if rng.random() < 0.15 and task in ("base", "causal-lm"):
        tensors["inputs_embeds"] = torch.randn(batch, length, hidden, generator=generator)
    else:
        tensors["input_ids"] = torch.randint(0, config["vocab_size"], (batch, length), generator=generator)
    if rng.random() < 0.25 and task in ("base", "causal-lm"):
        past = rng.randint(1, 5)
        for layer in range(layers):
            for part in ("key", "value"):
                shape = (batch, heads, past, size)
                tensors[f"past_key_values.{layer}.{part}"] = torch.randn(shape, generator=generator)
    drawn = rng.random()
    if (
        drawn < 0.4 and task != "question-answering"
    ):  # its loss runs over all positions, also those that look at nothing
        tensors["attention_mask"] = attention_mask(rng, batch, past + length)
    elif drawn < 0.5:
        tensors["attention_mask"] = four_dimensional(rng, generator, batch, length, past)
    if rng.random() < 0.3:
        tensors["position_ids"] = position_ids(rng, batch, length, past, 3 * length)
    if family == "gptj" and rng.random() < 0.3:
        tensors["token_type_ids"] = torch.randint(0, config["vocab_size"], (batch, length), generator=generator)
    if rng.random() < 0.8:
        tensors |= labels(rng, generator, task, config, tensors, batch, length)
    return tensors


def in_model_dtype(name: str, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Embeddings, caches and additive masks come in the model's dtype, labels and ids as they are."""
    if not tensor.is_floating_point() or name == "labels":
        return tensor
    return tensor.clamp(min=torch.finfo(dtype).min).to(dtype)


def generate_options(rng: random.Random) -> dict:
    options = {"max_new_tokens": rng.randint(1, 12)}
    if rng.random() < 0.3:
        options["repetition_penalty"] = rng.choice([0.8, 1.2, 2.0])
    if rng.random() < 0.3:
        options["no_repeat_ngram_size"] = rng.choice([1, 2, 3])
    if rng.random() < 0.3:
        options["min_new_tokens"] = rng.randint(1, options["max_new_tokens"])
    return options


def draw(seed: int, family: str) -> Trial:
    rng, generator = random.Random(f"{family} {seed}"), torch.Generator().manual_seed(seed)
    batch, length, task = rng.randint(1, 3), rng.randint(2, 12), rng.choice(TASKS)
    config = (gptj_config if family == "gptj" else llama_config)(rng, length)
    config |= {"initializer_range": 0.2, "bos_token_id": 1, "eos_token_id": 2} | head_settings(rng, task)
    if family != "gptj" and "pad_token_id" not in config and rng.random() < 0.3:
        config["pad_token_id"] = rng.randrange(3, 20)
    tensors = forward_tensors(rng, generator, family, task, config, batch, length)
    half = rng.random() < 0.1
    dtype = rng.choice([torch.bfloat16, torch.float16]) if half else torch.float32
    tensors = {name: in_model_dtype(name, tensor, dtype) for name, tensor in tensors.items()}
    attn = rng.choice(["eager", "eager", "sdpa"]) if family != "gptj" else "eager"
    if tensors.get("attention_mask") is not None and tensors["attention_mask"].dtype == torch.bool:
        # Eager HF adds a bool as numbers; GPT-J has no other kernel there, so it gets the additive form.
        if family != "gptj":
            attn = "sdpa"
        else:
            mask = tensors["attention_mask"]
            tensors["attention_mask"] = torch.zeros(mask.shape, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)
    return Trial(
        seed=seed,
        family=family,
        task=task,
        config=config,
        dtype=dtype,
        attn_implementation=attn,
        save_format=rng.choice(FORMATS),
        use_cache=rng.random() < 0.5,
        tensors=tensors,
        generate=generate_options(rng) if task == "causal-lm" and not half else {},
    )


def build(trial: Trial) -> torch.nn.Module:
    model_class = CLASSES[trial.family][trial.task]
    model = model_class(model_class.config_class(**trial.config))
    randomise(model, torch.Generator().manual_seed(trial.seed))
    return model.to(trial.dtype)
