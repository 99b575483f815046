"""Inputs the cases share. Everything hangs on the seed given here, never on the global generator."""

import torch

VOCABULARY = 40
PAD = 3


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ids(batch: int, length: int, seed: int = 1) -> torch.Tensor:
    """Random ids without the padding id."""
    return torch.randint(PAD + 1, VOCABULARY, (batch, length), generator=generator(seed))


def normal(*shape: int, seed: int = 2) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed))


def labelled(input_ids: torch.Tensor, **more) -> dict:
    return {"input_ids": input_ids, "labels": input_ids.clone(), **more}


def padded(side: str) -> dict:
    """Three rows of 7, 5 and 2 tokens, padded on the given side, with mask and labels."""
    input_ids = ids(3, 7)
    mask = torch.ones_like(input_ids)
    for row, missing in enumerate((0, 2, 5)):
        gap = slice(0, missing) if side == "left" else slice(7 - missing, 7)
        mask[row, gap] = 0
    input_ids = torch.where(mask == 1, input_ids, PAD)
    return {"input_ids": input_ids, "attention_mask": mask, "labels": torch.where(mask == 1, input_ids, -100)}


def left_padding_with_positions() -> dict:
    arguments = padded("left")
    mask = arguments["attention_mask"]
    arguments["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
    return arguments


def block_mask(batch: int, length: int) -> torch.Tensor:
    """A 4-D mask no 2-D mask can say: two blocks a row that do not see each other, causal inside; true = attend."""
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    block = torch.arange(length) >= length // 2
    return (causal & (block[:, None] == block[None, :])).expand(batch, 1, length, length).clone()


def additive(mask: torch.Tensor) -> torch.Tensor:
    return torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)


def labels_with_holes(batch: int, length: int) -> dict:
    arguments = labelled(ids(batch, length))
    arguments["labels"][0, 2:4] = -100
    arguments["labels"][1, -1] = -100
    return arguments


def steps(batch: int = 2, prompt: int = 5, with_mask: bool = False) -> list:
    """A prompt, three single tokens, then two at once; with_mask pads the second row on the left and counts its positions."""
    lengths = [prompt, 1, 1, 1, 2]
    all_ids = ids(batch, sum(lengths), seed=5)
    mask = torch.ones_like(all_ids)
    if with_mask:
        mask[1, :2] = 0
        all_ids[1, :2] = PAD
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    calls, start = [], 0
    for length in lengths:
        end = start + length
        call = {"input_ids": all_ids[:, start:end]}
        if with_mask:
            call |= {"attention_mask": mask[:, :end], "position_ids": positions[:, start:end]}
        calls.append(call)
        start = end
    return calls


def cache_tensors(layers: int, batch: int, heads: int, length: int, size: int, dtype=torch.float32) -> dict:
    parts = [(layer, part) for layer in range(layers) for part in ("key", "value")]
    return {
        f"past_key_values.{layer}.{part}": normal(
            batch, heads, length, size, seed=50 + 2 * layer + (part == "value")
        ).to(dtype)
        for layer, part in parts
    }


# Padding id 0: the rows of the pooling table, whose right-most token that is no padding is at 3, 1, 3, 0, 3.
POOLING_ROWS = torch.tensor([[5, 6, 7, 8], [5, 6, 0, 0], [0, 0, 5, 6], [0, 0, 0, 0], [5, 0, 6, 7]])


def classification_labels(problem: str, rows: int, labels: int) -> torch.Tensor:
    if problem == "single_label_classification":
        return torch.arange(rows) % labels
    if problem == "multi_label_classification":
        return (normal(rows, labels, seed=8) > 0).float()
    return normal(rows, labels, seed=9).squeeze(-1) if labels == 1 else normal(rows, labels, seed=9)
