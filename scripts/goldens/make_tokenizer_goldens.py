#!/usr/bin/env python3
"""Writes tests/golden/tokenization: small tokenizers of each kind, texts, and what HF `tokenizers` and `sentencepiece`
make of them. Needs tokenizers 0.23.3, sentencepiece 0.2.3 and transformers 5.23.0.

`expected.json` beside a tokenizer holds, text by text of `corpus.json`:
  ids          with the tokens that the tokenizer adds
  plain        without them; null when the same
  decoded      text of `ids` without special tokens
  decoded_all  with special tokens; null when the same
and, with a chat template, `chats`: conversations and their ids with and without a generation prompt.
The tokenizers are kept when they exist already (--retrain makes them anew), since training need not repeat exactly.
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT / "scripts")  # the modules beside this file are the package goldens

import sentencepiece
from goldens.tokenization import fixtures
from goldens.tokenization.corpus import corpus
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

GOLDEN = ROOT / "tests" / "golden" / "tokenization"
REAL_SMOLLM2 = ROOT / "models" / "SmolLM2-135M-Instruct"

CHATS = [
    [("user", "Hello, who are you?")],
    [("system", "You answer in rhyme."), ("user", "What is a fox?\n\nSay it briefly.")],
    [("user", "1 + 1 = ?"), ("assistant", "2"), ("user", "  and 2 + 2?  \n")],
    [("system", " Sei höflich. "), ("user", "Guten Tag 👋🏽"), ("assistant", "\nGrüß Gott!"), ("user", "日本語?")],
    [("user", ""), ("assistant", "It's\tcode:\n```\nx = 1\n```"), ("user", "ok"), ("assistant", "Bye.")],
]


def write_json(path: Path, value) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def row(ids: list[int], plain: list[int], decoded: str, decoded_all: str) -> dict:
    return {
        "ids": ids,
        "plain": None if plain == ids else plain,
        "decoded": decoded,
        "decoded_all": None if decoded_all == decoded else decoded_all,
    }


def run_tokenizer(tokenizer: Tokenizer, text: str) -> dict:
    plain = tokenizer.encode(text, add_special_tokens=False).ids
    ids = tokenizer.encode(text).ids
    return row(ids, plain, tokenizer.decode(ids), tokenizer.decode(ids, skip_special_tokens=False))


def run_sentencepiece(processor, text: str, config: dict) -> dict:
    plain = processor.encode(text)
    ids = [processor.bos_id()] * config["add_bos_token"] + plain + [processor.eos_id()] * config["add_eos_token"]
    shown, run = "", []
    for piece in ids:
        if processor.is_control(piece):
            shown += processor.decode(run) + processor.id_to_piece(piece)
            run = []
        else:
            run.append(piece)
    return row(ids, plain, processor.decode(ids), shown + processor.decode(run))


def run_chats(folder: Path, config: dict) -> list[dict]:
    named = {key: config[key] for key in ("bos_token", "eos_token") if isinstance(config.get(key), str)}
    if isinstance(config.get("bos_token"), dict):
        named["bos_token"] = config["bos_token"]["content"]
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), **named)
    tokenizer.chat_template = config["chat_template"]
    chats = []
    for chat in CHATS:
        messages = [{"role": role, "content": content} for role, content in chat]
        options = {"tokenize": True, "return_dict": False}
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, **options)
        plain = tokenizer.apply_chat_template(messages, add_generation_prompt=False, **options)
        chats.append({"messages": messages, "prompt": prompt, "plain": plain})
    return chats


def expected_of(folder: Path, kind: str, texts: list[str]) -> dict:
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    if kind in fixtures.SENTENCEPIECE_KINDS:
        processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        return {"rows": [run_sentencepiece(processor, text, config) for text in texts]}
    if kind == "tiktoken":
        tokenizer = fixtures.tiktoken_oracle(folder)
    elif kind in fixtures.FOLDER_KINDS:  # what the folder's other files say counts too
        tokenizer = AutoTokenizer.from_pretrained(str(folder)).backend_tokenizer
    else:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    expected = {"rows": [run_tokenizer(tokenizer, text) for text in texts]}
    if "chat_template" in config:
        expected["chats"] = run_chats(folder, config)
    return expected


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--retrain", action="store_true", help="make the small tokenizers anew")
    options = parser.parse_args()

    texts = corpus()
    GOLDEN.mkdir(parents=True, exist_ok=True)
    write_json(GOLDEN / "corpus.json", texts)
    makers = {**fixtures.JSON_KINDS, **fixtures.FOLDER_KINDS, **fixtures.SENTENCEPIECE_KINDS, "tiktoken": fixtures.tiktoken}
    for kind, make in makers.items():
        folder = GOLDEN / kind
        if options.retrain or not folder.exists():
            make(folder)
        write_json(folder / "expected.json", expected_of(folder, kind, texts))
    if REAL_SMOLLM2.exists():
        folder = GOLDEN / "smollm2_real"
        folder.mkdir(exist_ok=True)
        write_json(folder / "expected.json", expected_of(REAL_SMOLLM2, "smollm2_real", texts))
    print(f"{len(texts)} texts, {len(makers)} tokenizers in {GOLDEN.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
