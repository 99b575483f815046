"""Goldens of transformers 4.37.2's modeling_attn_mask_utils; imported by legacy.py only."""

import itertools
from pathlib import Path

import torch
from transformers import modeling_attn_mask_utils as masks
from transformers.modeling_attn_mask_utils import AttentionMaskConverter

from goldens.collection import Collection

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
ROWS = {
    "left": [[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 1, 1, 1, 1]],
    "right": [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]],
    "full": [[1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]],
    "empty_row": [[0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 1]],
}


def write_converter(collection: Collection) -> None:
    for (dtype_name, dtype), query, past, window in itertools.product(DTYPES.items(), (1, 3), (0, 2), (None, 2)):
        options = dict(
            batch_size=2, query_length=query, key_value_length=query + past, sliding_window=window, dtype=dtype_name
        )
        result = AttentionMaskConverter(True, window).to_causal_4d(2, query, query + past, dtype)
        name = f"to_causal_4d_{dtype_name}_q{query}_past{past}_window{window}"
        collection.add(name, {"result": result}, function="to_causal_4d", is_causal=True, **options)
    for (name, rows), causal, query, window in itertools.product(ROWS.items(), (True, False), (1, 3, 5), (None, 2)):
        if not causal and window is not None:
            continue  # raises
        mask = torch.tensor(rows)
        result = AttentionMaskConverter(causal, window).to_4d(mask, query, torch.float32, key_value_length=5)
        options = dict(query_length=query, key_value_length=5, sliding_window=window, is_causal=causal, dtype="float32")
        case = f"to_4d_{name}_{'causal' if causal else 'full'}_q{query}_window{window}"
        collection.add(case, {"mask": mask, "result": result}, function="to_4d", **options)
    for dtype_name, dtype in DTYPES.items():
        mask = torch.tensor([[1.0, 0.5, 0.0, 1.0, 2.0]])
        result = AttentionMaskConverter._expand_mask(mask, dtype, tgt_len=2)
        options = dict(tgt_len=2, dtype=dtype_name)
        collection.add(
            f"expand_mask_{dtype_name}", {"mask": mask, "result": result}, function="_expand_mask", **options
        )


def write_unmasking(collection: Collection) -> None:
    for name, rows in ROWS.items():
        mask = torch.tensor(rows)
        expanded = AttentionMaskConverter(True).to_4d(mask, 5, torch.float32, key_value_length=5)
        result = AttentionMaskConverter._unmask_unattended(expanded.clone(), mask, unmasked_value=0.0)
        tensors = {"mask": mask, "expanded": expanded, "result": result}
        collection.add(f"unmask_unattended_{name}", tensors, function="_unmask_unattended", unmasked_value=0.0)


def write_prepared(collection: Collection) -> None:
    causal_functions = ("_prepare_4d_causal_attention_mask", "_prepare_4d_causal_attention_mask_for_sdpa")
    for function, query in itertools.product(causal_functions, (1, 3, 5)):
        past = 5 - query
        embeddings = torch.zeros(3, query, 4)
        inputs = {name: torch.tensor(rows) for name, rows in ROWS.items()} | {"none": None}
        inputs["4d"] = (torch.arange(3 * query * 5).reshape(3, 1, query, 5) % 3 != 0).long()
        for name, mask in inputs.items():
            if function.endswith("sdpa") and name == "empty_row" and query == 3:
                continue  # the original runs out of bounds where padding is longer than the query
            given = None if mask is None else mask.clone()
            result = getattr(masks, function)(given, (3, query), embeddings, past)
            tensors = ({} if mask is None else {"mask": mask}) | {"result": result}
            options = dict(batch_size=3, query_length=query, past_key_values_length=past, dtype="float32")
            collection.add(f"{function.strip('_')}_{name}_q{query}", tensors, function=function, **options)
    plain_functions = ("_prepare_4d_attention_mask", "_prepare_4d_attention_mask_for_sdpa")
    for function, (name, rows), length in itertools.product(plain_functions, ROWS.items(), (None, 1, 3)):
        mask = torch.tensor(rows)
        result = getattr(masks, function)(mask, torch.float32, tgt_len=length)
        options = dict(tgt_len=length, dtype="float32")
        collection.add(
            f"{function.strip('_')}_{name}_{length}", {"mask": mask, "result": result}, function=function, **options
        )


def write_masks(folder: Path) -> None:
    collection = Collection()
    write_converter(collection)
    write_unmasking(collection)
    write_prepared(collection)
    collection.write(folder / "attention_masks.safetensors")
