"""Which places accelerate gives to the parts of a model, under random memory limits.

One file a config. Its case `model` holds the module tree, `structure`: [class, {own parameter: bytes, tied ones once}, bytes of
own buffers, {child: structure}], and `tied`: groups of parameter names. Each other case holds `strategy`, `max_memory` as
[place, bytes] pairs, `no_split_module_classes`, and the results: `limits`, what the strategy makes of max_memory, and
`device_map`.
"""

import json
import logging
import random
import warnings
from pathlib import Path

import accelerate.utils.modeling
import torch
import transformers.integrations.accelerate
from transformers import AutoModelForCausalLM, GPTJConfig, LlamaConfig

from .collection import Collection

ROOT = Path(__file__).resolve().parents[2]
STRATEGIES = ("auto", "balanced", "balanced_low_0", "sequential")
# Shares of the model's size that a place may hold.
TIGHT, AMPLE = (0.02, 0.5), (0.3, 1.5)


def configs() -> dict:
    llama = {"hidden_size": 16, "intermediate_size": 40, "num_attention_heads": 4, "num_key_value_heads": 2}
    gptj = {"n_embd": 16, "n_head": 4, "rotary_dim": 4, "n_positions": 32}
    from_file = lambda cls, name: cls(**json.loads((ROOT / "configs" / f"{name}.json").read_text()))
    return {
        "tiny_llama": LlamaConfig(**llama, num_hidden_layers=3, vocab_size=200),
        "tiny_llama_tied": LlamaConfig(**llama, num_hidden_layers=5, vocab_size=40, tie_word_embeddings=True),
        "tiny_llama_wide_vocabulary": LlamaConfig(
            **llama, num_hidden_layers=2, vocab_size=2000, tie_word_embeddings=True
        ),
        "tiny_gptj": GPTJConfig(**gptj, n_layer=4, vocab_size=100, tie_word_embeddings=False),
        "llama_2_7b": from_file(LlamaConfig, "llama-2-7b"),
        "gptj_6b": from_file(GPTJConfig, "gptj-6b"),
    }


def structure(module: torch.nn.Module, seen: set) -> list:
    def size(tensor):
        is_new = id(tensor) not in seen
        seen.add(id(tensor))
        return tensor.numel() * tensor.element_size() if is_new else 0

    return [
        type(module).__name__,
        {name: size(parameter) for name, parameter in module.named_parameters(recurse=False)},
        sum(size(buffer) for buffer in module.buffers(recurse=False)),
        {name: structure(child, seen) for name, child in module.named_children()},
    ]


def tied_groups(model) -> list:
    return [sorted([source, target]) for target, source in model.all_tied_weights_keys.items()]


def random_limits(generator: random.Random, total: int) -> dict:
    share = generator.choice((TIGHT, AMPLE))
    places = [*range(generator.randint(0, 3)), *(["cpu"] if generator.random() < 0.7 else [])]
    limits = {place: int(total * generator.uniform(*share)) for place in places or ["cpu"]}
    return limits | ({"disk": total} if generator.random() < 0.3 else {})


def infer(model, strategy: str, max_memory: dict, no_split: list) -> tuple:
    """As `from_pretrained(device_map=strategy)` of transformers; the map itself is what accelerate makes of the same limits too."""
    ours = transformers.integrations.accelerate
    limits = ours.get_max_memory(dict(max_memory))
    if strategy != "sequential":
        limits = ours.get_balanced_memory(
            model, dict(max_memory), no_split_module_classes=no_split, low_zero=strategy == "balanced_low_0"
        )
    device_map = ours.infer_auto_device_map(model, dict(limits), no_split_module_classes=no_split)
    theirs = accelerate.utils.modeling.infer_auto_device_map(model, dict(limits), no_split_module_classes=no_split)
    assert dict(device_map) == dict(theirs)
    return limits, device_map


def write(folder: Path) -> None:
    # Each GPU of a map is "not available" here, and tight limits leave no room for buffers.
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="accelerate")
    for name, config in configs().items():
        generator = random.Random(name)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        model.tie_weights()
        total = transformers.integrations.accelerate.compute_module_sizes(model)[0][""]
        cases = Collection()
        cases.add("model", {}, structure=structure(model, set()), tied=tied_groups(model), config=config.to_json_string())
        for i in range(24):
            strategy = STRATEGIES[i % len(STRATEGIES)]
            # A preset's layers stay whole: split up, its maps would fill the file.
            no_split = [] if name.startswith("tiny") and generator.random() < 0.3 else list(model._no_split_modules)
            max_memory = random_limits(generator, total)
            limits, device_map = infer(model, strategy, max_memory, no_split)
            cases.add(
                f"case_{i}",
                {},
                strategy=strategy,
                max_memory=list(max_memory.items()),
                no_split_module_classes=no_split,
                limits=list(limits.items()),
                device_map=dict(sorted(device_map.items())),
            )
        cases.write(folder / f"{name}.safetensors")
