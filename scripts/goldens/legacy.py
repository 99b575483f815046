"""What only transformers 4.37.2 has. Runs as a program of its own, with that version's folder first on the path:

legacy.py <folder with transformers 4.37.2> <golden folder>
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0:1] = [sys.argv[1], str(Path(__file__).resolve().parent.parent)]

import torch
from transformers import GPTJConfig, GPTJForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.cache_utils import DynamicCache, SinkCache
from transformers.models.llama.modeling_llama import (
    LlamaDynamicNTKScalingRotaryEmbedding,
    LlamaLinearScalingRotaryEmbedding,
    LlamaRotaryEmbedding,
    _get_unpad_data,
    apply_rotary_pos_emb,
)
from transformers.pytorch_utils import (
    Conv1D,
    apply_chunking_to_forward,
    find_pruneable_heads_and_indices,
    meshgrid,
    prune_conv1d_layer,
    prune_layer,
    prune_linear_layer,
    softmax_backward_data,
)

from goldens import inputs as make
from goldens.case import Case, flatten_outputs, metadata, randomise, save, weights
from goldens.collection import Collection
from goldens.legacy_masks import write_masks

LLAMA = dict(
    vocab_size=make.VOCABULARY,
    hidden_size=24,
    intermediate_size=20,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=32,
)
GPTJ = dict(vocab_size=make.VOCABULARY, n_embd=24, n_layer=2, n_head=3, n_positions=32, n_inner=20, rotary_dim=4)


def build(case: Case):
    config = case.model_class.config_class(**case.config)
    config._attn_implementation = "eager"
    model = case.model_class(config).eval()
    randomise(model, torch.Generator().manual_seed(case.seed))
    return model


def flatten_tuples(past) -> dict:
    return {
        f"past_key_values.{i}.{part}": layer[part == "value"]
        for i, layer in enumerate(past)
        for part in ("key", "value")
    }


def gather_tuples(inputs: dict, layers: int) -> tuple:
    return tuple(tuple(inputs.pop(f"past_key_values.{i}.{part}") for part in ("key", "value")) for i in range(layers))


def write_model(case: Case, folder: Path) -> None:
    model, inputs = build(case), dict(case.inputs)
    tensors = {f"weights.{name}": tensor for name, tensor in weights(model).items()}
    tensors |= {f"inputs.{name}": tensor for name, tensor in inputs.items()}
    if "past_key_values.0.key" in inputs:
        inputs["past_key_values"] = gather_tuples(inputs, model.config.num_hidden_layers)
    result = model(**inputs, use_cache=True, output_hidden_states=True, output_attentions=True)
    outputs = flatten_outputs(result, None, case.outputs) | flatten_tuples(result.past_key_values)
    tensors |= {f"outputs.{name}": tensor for name, tensor in outputs.items()}
    if result.loss is not None:
        result.loss.backward()
        tensors |= {f"grads.{name}": parameter.grad for name, parameter in model.named_parameters()}
    save(folder / f"{case.name}.safetensors", tensors, metadata(case, model))


def model_cases() -> list:
    plain = make.labelled(make.ids(2, 7))
    per_layer = torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, 2.0]])
    new = {"input_ids": make.ids(2, 3)}
    biases = dict(attention_bias=False, pretraining_tp=2)
    return [
        Case("gptj_head_mask", GPTJForCausalLM, GPTJ, plain | {"head_mask": per_layer}),
        Case("gptj_head_mask_one_row", GPTJForCausalLM, GPTJ, plain | {"head_mask": per_layer[1]}),
        Case("gptj_tuple_cache", GPTJForCausalLM, GPTJ, new | make.cache_tensors(2, 2, 3, 4, 8)),
        Case("llama_tuple_cache", LlamaForCausalLM, LLAMA, new | make.cache_tensors(2, 2, 2, 4, 6)),
        Case("llama_pretraining_tp_2", LlamaForCausalLM, LLAMA | biases, plain),
        Case(
            "llama_pretraining_tp_4",
            LlamaForCausalLM,
            LLAMA | biases | {"pretraining_tp": 4, "num_key_value_heads": 4},
            plain,
        ),
    ]


def write_sink_cache(folder: Path) -> None:
    """Updates of one layer: keys are already rotated; cos and sin are the tables a model hands over, one row a position."""
    collection = Collection()
    rotary = LlamaRotaryEmbedding(8, max_position_embeddings=64, base=10000)
    lengths = {"shifts_one": [3, 2, 1, 1, 1, 1, 1], "shifts_several": [4, 1, 2, 2, 1, 2], "fills_exactly": [5, 1, 1, 1]}
    for name, steps in lengths.items():
        for partial in (None, 4):
            size = partial or 8
            table = rotary if partial is None else LlamaRotaryEmbedding(size, max_position_embeddings=64, base=10000)
            cos, sin = table(torch.zeros(1), seq_len=64)
            cache, tensors = SinkCache(window_length=6, num_sink_tokens=2), {"cos": cos, "sin": sin}
            for step, length in enumerate(steps):
                key, value = make.normal(2, 2, length, 8, seed=step), make.normal(2, 2, length, 8, seed=step + 40)
                arguments = {"cos": cos, "sin": sin, "partial_rotation_size": partial}
                keys, values = cache.update(key, value, 0, arguments)
                tensors |= {f"step{step}.key": key, f"step{step}.value": value}
                tensors |= {f"step{step}.keys": keys, f"step{step}.values": values}
            options = dict(window_length=6, num_sink_tokens=2, partial_rotation_size=partial, steps=len(steps))
            collection.add(f"{name}_partial" if partial else name, tensors, **options)
    collection.write(folder / "sink_cache.safetensors")


def write_sink_generation(folder: Path) -> None:
    case = Case("llama_sink_cache_generate", LlamaForCausalLM, LLAMA, {"input_ids": make.ids(1, 5)})
    model = build(case)
    # A mask without padding: generate() crops it to the window once the sequence is longer.
    case.options |= dict(max_new_tokens=14, do_sample=False, pad_token_id=make.PAD, eos_token_id=make.VOCABULARY)
    sink = dict(window_length=8, num_sink_tokens=2)
    inputs = case.inputs | {"attention_mask": torch.ones(1, 5, dtype=torch.long)}
    result = model.generate(
        **inputs, **case.options, past_key_values=SinkCache(**sink), return_dict_in_generate=True, output_scores=True
    )
    tensors = {f"weights.{name}": tensor for name, tensor in weights(model).items()}
    tensors |= {f"inputs.{name}": tensor for name, tensor in inputs.items()} | {"outputs.sequences": result.sequences}
    tensors |= {f"outputs.scores.{step}": scores for step, scores in enumerate(result.scores)}
    case.options |= sink
    save(folder / f"{case.name}.safetensors", tensors, metadata(case, model))


def write_rotary_classes(folder: Path) -> None:
    """The table interface of 4.37: cos and sin for positions 0 to seq_len - 1, and the rotation that picks rows by position."""
    collection = Collection()
    options = dict(dim=8, max_position_embeddings=16, base=10000)
    for length in (5, 16, 40):
        scaled = dict(options, scaling_factor=2.0)
        for embedding in (
            LlamaRotaryEmbedding(**options),
            LlamaLinearScalingRotaryEmbedding(**scaled),
            LlamaDynamicNTKScalingRotaryEmbedding(**scaled),
        ):
            cos, sin = embedding(torch.zeros(1), seq_len=length)
            name = type(embedding).__name__
            collection.add(
                f"{name}_{length}",
                {"cos": cos, "sin": sin},
                seq_len=length,
                **(scaled if "Scaling" in name else options),
            )
    q, k = make.normal(2, 4, 3, 8, seed=1), make.normal(2, 2, 3, 8, seed=2)
    cos, sin = LlamaRotaryEmbedding(**options)(q, seq_len=16)
    positions = torch.tensor([[0, 1, 2], [9, 4, 15]])
    for unsqueeze_dim in (1, 2):
        heads_last = unsqueeze_dim == 2
        query, key = (q.transpose(1, 2), k.transpose(1, 2)) if heads_last else (q, k)
        rotated_q, rotated_k = apply_rotary_pos_emb(query, key, cos, sin, positions, unsqueeze_dim)
        tensors = {"q": query, "k": key, "cos": cos, "sin": sin, "position_ids": positions}
        tensors |= {"rotated_q": rotated_q, "rotated_k": rotated_k}
        collection.add(f"apply_rotary_pos_emb_{unsqueeze_dim}", tensors, unsqueeze_dim=unsqueeze_dim)
    collection.write(folder / "rotary_classes.safetensors")


def write_unpad(folder: Path) -> None:
    collection = Collection()
    masks = {
        "right": [[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]],
        "left": [[0, 0, 1, 1], [1, 1, 1, 1], [0, 1, 1, 1]],
        "holes": [[1, 0, 1, 1], [0, 1, 0, 1]],
        "empty_row": [[0, 0, 0], [1, 1, 0]],
        "full": [[1, 1, 1], [1, 1, 1]],
    }
    for name, rows in masks.items():
        mask = torch.tensor(rows)
        indices, lengths, longest = _get_unpad_data(mask)
        tensors = {"mask": mask, "indices": indices, "cu_seqlens": lengths}
        collection.add(name, tensors, max_seqlen_in_batch=longest)
    collection.write(folder / "unpad.safetensors")


def prepared(collection: Collection, name: str, model, cache, inputs: dict, **options) -> None:
    result = model.prepare_inputs_for_generation(past_key_values=cache, **inputs)
    tensors = {f"inputs.{key}": tensor for key, tensor in inputs.items() if tensor is not None}
    kept = ("input_ids", "inputs_embeds", "position_ids", "attention_mask", "token_type_ids")
    tensors |= {f"outputs.{key}": result[key] for key in kept if result.get(key) is not None}
    collection.add(name, tensors, **options)


def filled(cache, length: int, heads: int):
    for layer in range(2):
        cache.update(*[make.normal(2, heads, length, 6, seed=layer)] * 2, layer, {})
    return cache


def write_prepared_inputs(folder: Path) -> None:
    collection = Collection()
    ids, embeddings = make.ids(2, 6), make.normal(2, 6, 24)
    mask = torch.tensor([[0, 0, 1, 1, 1, 1], [1] * 6])
    models = {"llama": LlamaForCausalLM(LlamaConfig(**LLAMA)), "gptj": GPTJForCausalLM(GPTJConfig(**GPTJ))}
    for family, model in models.items():
        cases = {
            "first_step": (0, dict(input_ids=ids, attention_mask=mask)),
            "without_mask": (0, dict(input_ids=ids, attention_mask=None)),
            "first_step_embeddings": (0, dict(input_ids=ids, attention_mask=mask, inputs_embeds=embeddings)),
            "all_ids_after_4": (4, dict(input_ids=ids, attention_mask=mask)),
            "all_ids_after_5": (5, dict(input_ids=ids, attention_mask=mask)),
            "last_id_only": (5, dict(input_ids=ids[:, -1:], attention_mask=mask)),
            "embeddings_after_first_step": (
                5,
                dict(input_ids=ids[:, -1:], attention_mask=mask, inputs_embeds=embeddings),
            ),
            "own_position_ids": (5, dict(input_ids=ids, attention_mask=mask, position_ids=torch.full((2, 1), 9))),
            "ids_shorter_than_past": (8, dict(input_ids=ids, attention_mask=None)),
        }
        if family == "gptj":
            cases["token_type_ids"] = (
                4,
                dict(input_ids=ids, attention_mask=mask, token_type_ids=make.ids(2, 6, seed=6)),
            )
        for name, (past, inputs) in cases.items():
            cache = filled(DynamicCache(), past, 2) if past else None
            if family == "gptj" and cache is not None:
                cache = cache.to_legacy_cache()
            prepared(collection, f"{family}_{name}", model, cache, inputs, family=family, past_length=past)
    sink = filled(SinkCache(window_length=5, num_sink_tokens=1), 5, 2)
    inputs = dict(input_ids=ids, attention_mask=mask)
    prepared(
        collection,
        "llama_mask_cropped_to_window",
        models["llama"],
        sink,
        inputs,
        family="llama",
        past_length=5,
        window_length=5,
    )
    collection.write(folder / "prepare_inputs.safetensors")


def layer_tensors(layer) -> dict:
    return {"weight": layer.weight} | ({} if layer.bias is None else {"bias": layer.bias})


def write_pruned_layers(collection: Collection) -> None:
    index = torch.tensor([4, 0, 3])
    for bias in (True, False):
        linear = torch.nn.Linear(5, 6, bias=bias)
        randomise(linear, make.generator(31))
        for dim in (0, 1, None):
            pruned = prune_layer(linear, index) if dim is None else prune_linear_layer(linear, index, dim)
            tensors = layer_tensors(linear) | {"index": index}
            tensors |= {f"pruned_{key}": tensor for key, tensor in layer_tensors(pruned).items()}
            collection.add(
                f"linear_{'bias' if bias else 'plain'}_dim_{dim}", tensors, function="prune_linear_layer", dim=dim
            )
    conv = Conv1D(6, 5)
    randomise(conv, make.generator(32))
    x = make.normal(2, 3, 5)
    collection.add("conv1d", layer_tensors(conv) | {"x": x, "output": conv(x)}, function="Conv1D")
    for dim in (0, 1, None):
        pruned = prune_layer(conv, index) if dim is None else prune_conv1d_layer(conv, index, dim)
        tensors = layer_tensors(conv) | {"index": index}
        tensors |= {f"pruned_{key}": tensor for key, tensor in layer_tensors(pruned).items()}
        collection.add(f"conv1d_dim_{dim}", tensors, function="prune_conv1d_layer", dim=dim)


def write_pytorch_utils(folder: Path) -> None:
    collection = Collection()
    write_pruned_layers(collection)
    heads = [
        ([1, 3], 5, 2, []),
        ([1, 3], 4, 2, [0]),
        ([0, 2], 3, 3, [1]),
        ([], 4, 2, []),
        ([0, 1], 2, 2, [0, 1]),
        ([5], 4, 2, [0, 1]),
    ]
    for i, (wanted, count, size, pruned) in enumerate(heads):
        left, index = find_pruneable_heads_and_indices(wanted, count, size, set(pruned))
        options = dict(heads=wanted, n_heads=count, head_size=size, already_pruned_heads=pruned, found=sorted(left))
        collection.add(f"heads_{i}", {"index": index}, function="find_pruneable_heads_and_indices", **options)
    a, b = make.normal(2, 6, 4, seed=1), make.normal(2, 6, 4, seed=2)
    for size in (0, 1, 2, 3, 6):
        result = apply_chunking_to_forward(lambda x, y: x * y + x.mean(1, keepdim=True), size, 1, a, b)
        options = dict(chunk_size=size, chunk_dim=1, forward="x * y + x.mean(1, keepdim=True)")
        collection.add(
            f"chunks_{size}", {"x": a, "y": b, "output": result}, function="apply_chunking_to_forward", **options
        )
    output, upstream = torch.softmax(make.normal(3, 5), -1), make.normal(3, 5, seed=4)
    parent = torch.nn.Softmax(dim=-1)
    gradient = softmax_backward_data(parent, upstream, output, 0, output)
    tensors = {"grad_output": upstream, "output": output, "result": gradient}
    collection.add("softmax_backward", tensors, function="softmax_backward_data", parent_dim=-1, dim=0)
    x, y = torch.arange(3.0), torch.arange(4.0)
    for indexing in ("ij", "xy"):
        collection.add(
            f"meshgrid_{indexing}", {"x": x, "y": y, "grid": meshgrid(x, y, indexing=indexing)}, indexing=indexing
        )
    collection.write(folder / "pytorch_utils.safetensors")


def main(folder: Path) -> None:
    for case in model_cases():
        write_model(case, folder)
    write_sink_cache(folder)
    write_sink_generation(folder)
    write_rotary_classes(folder)
    write_unpad(folder)
    write_prepared_inputs(folder)
    with torch.no_grad():
        write_pytorch_utils(folder)
        write_masks(folder)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[2]))
