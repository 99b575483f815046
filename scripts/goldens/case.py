"""One golden file: a tiny random model, its inputs, and everything transformers makes of them.

Tensors of a file
    weights.<name>            the state dict, without the second name of a tied weight
    inputs.<argument>         forward arguments; a file with several calls has inputs.step{k}.<argument>
    outputs.<field>           logits, loss, last_hidden_state, start_logits, end_logits, hidden_states.{i}, attentions.{i},
                              past_key_values.{i}.key|value; with several calls outputs.step{k}.<field>
    grads.<name>              gradient of outputs.loss for every parameter
A call has use_cache true unless case.options say otherwise, and asks for hidden states and attentions where the kernel is eager.
Metadata: config (config.json as save_pretrained writes it), class, attn_implementation, dtype, versions, seed, and case, a
JSON object with name, steps (0: one call) and options, the forward arguments that are no tensors.
"""

import dataclasses
import json
import tempfile
import zlib
from pathlib import Path

import safetensors.torch
import torch
import transformers

SIZE_LIMIT = 200_000


@dataclasses.dataclass
class Case:
    name: str
    model_class: type
    config: dict
    inputs: dict | list  # arguments of one call, or of each of several calls that share a cache
    options: dict = dataclasses.field(default_factory=dict)
    attn_implementation: str = "eager"
    dtype: torch.dtype = torch.float32
    outputs: tuple = ("hidden_states", "attentions", "past_key_values")

    @property
    def seed(self) -> int:
        return zlib.crc32(self.name.encode()) % 100_000


def randomise(model: torch.nn.Module, generator: torch.Generator) -> None:
    """Also moves what is constant at initialisation (norm weights, biases, the padding row), so that no fault there can hide."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_norm = ("norm" in name or "ln_" in name) and name.endswith("weight")
            centre = parameter.mean().item() if is_norm else 0.0  # that of a new norm
            parameter.normal_(centre, 0.2, generator=generator)


def build(case: Case) -> torch.nn.Module:
    config = case.model_class.config_class(**case.config)
    config._attn_implementation = case.attn_implementation
    model = case.model_class(config).eval()
    randomise(model, torch.Generator().manual_seed(case.seed))
    if case.dtype == torch.float32:
        return model
    # Loading keeps the rotary data in fp32, as the library does; a cast of the built model would round it.
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return case.model_class.from_pretrained(
            folder, dtype=case.dtype, attn_implementation=case.attn_implementation
        ).eval()


def weights(model: torch.nn.Module) -> dict:
    tied = getattr(model, "_tied_weights_keys", None) or {}
    skipped = set(tied) if model.config.tie_word_embeddings else set()
    return {name: tensor for name, tensor in model.state_dict().items() if name not in skipped}


def flatten_cache(cache) -> dict:
    pairs = [(layer.keys, layer.values) for layer in cache.layers]
    return {
        f"past_key_values.{i}.{part}": tensor
        for i, pair in enumerate(pairs)
        for part, tensor in zip(("key", "value"), pair)
    }


def flatten_outputs(outputs, cache, wanted) -> dict:
    fields = ("loss", "logits", "last_hidden_state", "start_logits", "end_logits")
    tensors = {name: outputs[name] for name in fields if name in outputs and outputs[name] is not None}
    for name in ("hidden_states", "attentions"):
        values = getattr(outputs, name, None)
        if name in wanted and values is not None:
            tensors |= {f"{name}.{i}": value for i, value in enumerate(values)}
    if "past_key_values" in wanted and cache is not None:
        tensors |= flatten_cache(cache)
    return tensors


def call(case: Case, model, inputs: dict, cache):
    arguments = dict(case.options) | inputs
    arguments.setdefault("use_cache", cache is not None)
    if cache is not None:
        arguments["past_key_values"] = cache
    if case.attn_implementation == "eager":
        arguments |= {
            "output_hidden_states": "hidden_states" in case.outputs,
            "output_attentions": "attentions" in case.outputs,
        }
    return model(**arguments)


def given_cache(model, inputs: dict):
    """A cache filled with the tensors `past_key_values.{i}.key|value` of the inputs."""
    cache = transformers.DynamicCache(config=model.config)
    for layer in range(model.config.num_hidden_layers):
        key, value = (inputs.pop(f"past_key_values.{layer}.{part}") for part in ("key", "value"))
        cache.update(key, value, layer)
    return cache


def one_call(case: Case, model) -> dict:
    inputs = dict(case.inputs)
    cache = transformers.DynamicCache(config=model.config) if case.options.get("use_cache", True) else None
    if "past_key_values.0.key" in inputs:
        cache = given_cache(model, inputs)
    outputs = call(case, model, inputs, cache)
    tensors = {f"inputs.{name}": tensor for name, tensor in case.inputs.items()}
    tensors |= {f"outputs.{name}": tensor for name, tensor in flatten_outputs(outputs, cache, case.outputs).items()}
    if "outputs.loss" in tensors:
        outputs.loss.backward()
        zeros = torch.zeros_like
        tensors |= {f"grads.{name}": zeros(p) if p.grad is None else p.grad for name, p in model.named_parameters()}
    return tensors


def several_calls(case: Case, model) -> dict:
    cache = transformers.DynamicCache(config=model.config) if case.options.get("use_cache", True) else None
    tensors = {}
    for step, inputs in enumerate(case.inputs):
        with torch.no_grad():
            outputs = call(case, model, inputs, cache)
        tensors |= {f"inputs.step{step}.{name}": tensor for name, tensor in inputs.items()}
        wanted = tuple(name for name in case.outputs if name == "hidden_states")
        step_outputs = flatten_outputs(outputs, None, wanted)
        tensors |= {f"outputs.step{step}.{name}": tensor for name, tensor in step_outputs.items()}
    if cache is not None:
        tensors |= {f"outputs.{name}": tensor for name, tensor in flatten_cache(cache).items()}
    return tensors


def config_text(model) -> str:
    """config.json as save_pretrained writes it."""
    model.config.architectures = [type(model).__name__]
    model.config.dtype = str(model.dtype).removeprefix("torch.")
    with tempfile.TemporaryDirectory() as folder:
        model.config.save_pretrained(folder)
        return (Path(folder) / "config.json").read_text()


def metadata(case: Case, model) -> dict:
    steps = len(case.inputs) if isinstance(case.inputs, list) else 0
    return {
        "format": "pt",
        "config": config_text(model),
        "class": case.model_class.__name__,
        "attn_implementation": case.attn_implementation,
        "dtype": str(case.dtype).removeprefix("torch."),
        "versions": json.dumps({"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__}),
        "seed": str(case.seed),
        "case": json.dumps({"name": case.name, "steps": steps, "options": case.options}),
    }


def with_sorted_header(file: bytes) -> bytes:
    """safetensors writes metadata in random order; sorted, the same content gives the same bytes."""
    length = int.from_bytes(file[:8], "little")
    header = json.dumps(json.loads(file[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + file[8 + length :]


def save(path: Path, tensors: dict, description: dict) -> None:
    own = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    path.write_bytes(with_sorted_header(safetensors.torch.save(own, description)))
    size = path.stat().st_size
    if size > SIZE_LIMIT:
        raise SystemExit(f"{path.name} has {size} bytes, more than the {SIZE_LIMIT} a golden may have: shrink the case")


def write_case(case: Case, folder: Path) -> None:
    model = build(case)
    tensors = {f"weights.{name}": tensor for name, tensor in weights(model).items()}
    description = metadata(case, model)  # before the call: HF writes a derived problem_type back into the config
    tensors |= several_calls(case, model) if isinstance(case.inputs, list) else one_call(case, model)
    save(folder / f"{case.name}.safetensors", tensors, description)


def move_by_a_rounding(model, seed: int) -> None:
    """Each weight to a float beside it, or not at all."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            direction = torch.randint(-1, 2, parameter.shape, generator=generator)
            parameter.mul_(1 + torch.finfo(torch.float32).eps * direction)
