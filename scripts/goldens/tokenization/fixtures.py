"""Small tokenizers of each kind that the library reads, trained on our own text."""

import base64
import json
from pathlib import Path

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers.convert_slow_tokenizer import TikTokenConverter, bytes_to_unicode

from .corpus import training_text

LLAMA3_REGEX = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SMOLLM2_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3_TEMPLATE = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
LLAMA2_TEMPLATE = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}"
    "{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)


def special(*names: str) -> list[AddedToken]:
    return [AddedToken(name, special=True, normalized=False) for name in names]


def train_byte_level(tokenizer: Tokenizer, vocab_size: int, first: list[AddedToken]) -> None:
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=first,
        show_progress=False,
    )
    tokenizer.train_from_iterator(training_text(), trainer)


def save(tokenizer: Tokenizer, folder: Path, config: dict, legacy_merges: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    data = json.loads(tokenizer.to_str())
    if legacy_merges:
        data["model"]["merges"] = [" ".join(merge) for merge in data["model"]["merges"]]
    (folder / "tokenizer.json").write_text(json.dumps(data, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
    write_config(folder, config)


def write_config(folder: Path, config: dict) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def gpt2(folder: Path) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    train_byte_level(tokenizer, 700, [])
    tokenizer.add_special_tokens(special("<|endoftext|>"))
    tokenizer.add_tokens([AddedToken(f"<|extratoken_{i}|>", normalized=True) for i in range(1, 15)])
    tokenizer.add_tokens([AddedToken(" " * n, normalized=True) for n in range(31, 1, -1)])  # as CodeGen has them
    names = dict.fromkeys(["bos_token", "eos_token", "unk_token"], "<|endoftext|>")
    save(tokenizer, folder, {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False, **names}, legacy_merges=True)


def smollm2(folder: Path) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] + [f"<reserved_{i}>" for i in range(14)]
    train_byte_level(tokenizer, 700, special(*names))
    config = {
        "tokenizer_class": "GPT2Tokenizer",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
        "chat_template": SMOLLM2_TEMPLATE,
    }
    save(tokenizer, folder, config)


def llama3(folder: Path) -> None:
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_REGEX), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    train_byte_level(tokenizer, 800, [])
    names = ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|start_header_id|>"]
    tokenizer.add_special_tokens(special(*names, "<|end_header_id|>", "<|eot_id|>"))
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single="<|begin_of_text|> $A",
                pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1",
                special_tokens=[("<|begin_of_text|>", tokenizer.token_to_id("<|begin_of_text|>"))],
            ),
        ]
    )
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|eot_id|>",
        "chat_template": LLAMA3_TEMPLATE,
    }
    save(tokenizer, folder, config)
    # Words that no merge leads to: only ignore_merges finds them.
    data = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    data["model"]["merges"] = [m for m in data["model"]["merges"] if "".join(m) not in ("Ġthe", "Ġand")]
    data["model"]["merges"] = [m for m in data["model"]["merges"] if not {"Ġthe", "Ġand"} & set(m)]
    (folder / "tokenizer.json").write_text(json.dumps(data, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")


def llama2_model(byte_tokens: int = 256, fuse_unk: bool = True) -> models.BPE:
    """The pieces of a LLaMA 2 file: control tokens, bytes, then what merges make."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trained.train_from_iterator(training_text(), trainers.BpeTrainer(vocab_size=600, limit_alphabet=150, show_progress=False))
    model = json.loads(trained.to_str())["model"]
    first = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(byte_tokens)]
    pieces = sorted(model["vocab"], key=model["vocab"].get)
    vocab = {piece: i for i, piece in enumerate(first + pieces)}
    merges = [tuple(merge) for merge in model["merges"]]
    return models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=fuse_unk, byte_fallback=byte_tokens > 0)


def add_bos(tokenizer: Tokenizer) -> None:
    tokenizer.add_special_tokens(special("<unk>", "<s>", "</s>"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )


LLAMA2_CONFIG = {
    "bos_token": {"__type": "AddedToken", "content": "<s>", "lstrip": False, "normalized": False},
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "pad_token": None,
    "tokenizer_class": "LlamaTokenizer",
    "chat_template": LLAMA2_TEMPLATE,
}
LLAMA2_DECODER = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]


def llama2(folder: Path) -> None:
    tokenizer = Tokenizer(llama2_model())
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(LLAMA2_DECODER)
    add_bos(tokenizer)
    save(tokenizer, folder, LLAMA2_CONFIG)


def llama2_metaspace(folder: Path) -> None:
    """The form of newer files, which prefix only the start of the text; here some bytes have no token."""
    tokenizer = Tokenizer(llama2_model(byte_tokens=0xC8))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(LLAMA2_DECODER)
    add_bos(tokenizer)
    tokenizer.add_special_tokens([AddedToken("<pad>", special=True, normalized=False)])
    save(tokenizer, folder, LLAMA2_CONFIG)


def added(folder: Path) -> None:
    """All that added tokens can ask for, over a normalizer that changes text; no byte fallback, no fused unknowns."""
    tokenizer = Tokenizer(llama2_model(byte_tokens=0, fuse_unk=False))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(r" {3,}"), "  "), normalizers.Replace(" ", "▁")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("▁", behavior="merged_with_next"),
            pre_tokenizers.Split(Regex(r"\p{N}+"), behavior="contiguous", invert=True),
            pre_tokenizers.Digits(individual_digits=False),
            pre_tokenizers.Split(Regex(r"[,;]"), behavior="removed"),
            pre_tokenizers.Split(Regex(r"[.!?]"), behavior="merged_with_previous"),
            pre_tokenizers.Split(Regex(r"^x|[\s]$"), behavior="isolated"),
        ]
    )
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.add_special_tokens(special("<unk>"))
    tokenizer.add_tokens(
        [
            AddedToken("mot", single_word=True, normalized=True),
            AddedToken("[MASK]", lstrip=True, special=True, normalized=False),
            AddedToken("<lef>", lstrip=True, normalized=False),
            AddedToken("<rig>", rstrip=True, normalized=False),
            AddedToken("<jmp>", lstrip=True, rstrip=True, normalized=True),
            AddedToken("<|end", normalized=False),
            AddedToken("<|endoftext|>", normalized=False, special=True),
        ]
    )
    save(tokenizer, folder, {"unk_token": "<unk>", "mask_token": "[MASK]"})


def plain(folder: Path) -> None:
    """Nothing but a model: no decoder, words joined by spaces; the unknown is dropped."""
    tokenizer = Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2, "c": 7, "abc": 9, "</s>": 11}, [("a", "b"), ("ab", "c")]))
    tokenizer.add_special_tokens(special("</s>"))
    save(tokenizer, folder, {"eos_token": "</s>", "add_eos_token": True, "add_bos_token": False})


def train_sentencepiece(path: Path, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(training_text()), model_writer=stream, minloglevel=2, num_threads=1, **options
        )


def spm(folder: Path) -> None:
    """As LLaMA 2 trained its own."""
    train_sentencepiece(
        folder / "tokenizer.model",
        model_type="bpe",
        vocab_size=900,
        character_coverage=0.99,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
    )
    write_config(folder, {**LLAMA2_CONFIG, "add_bos_token": True, "add_eos_token": False})


def spm_unigram(folder: Path) -> None:
    """SentencePiece's own defaults, with its table of character rewrites."""
    options = {"model_type": "unigram", "vocab_size": 500, "hard_vocab_limit": False, "user_defined_symbols": ["<sep>"]}
    train_sentencepiece(folder / "tokenizer.model", normalization_rule_name="nmt_nfkc", **options)
    write_config(folder, {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": False, "add_eos_token": True})


def tiktoken(folder: Path) -> None:
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_REGEX), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    train_byte_level(trained, 700, [])
    byte_of = {character: byte for byte, character in bytes_to_unicode().items()}
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "tokenizer.model").open("wb") as stream:
        for token, rank in sorted(trained.get_vocab().items(), key=lambda entry: entry[1]):
            stream.write(base64.b64encode(bytes(byte_of[c] for c in token)) + b" %d\n" % rank)
    names = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
    tokens = {str(700 + i): {"content": name, "special": True, "normalized": False} for i, name in enumerate(names)}
    config = {"added_tokens_decoder": tokens, "bos_token": names[0], "eos_token": names[1], "add_bos_token": True}
    write_config(folder, config)


def tiktoken_oracle(folder: Path) -> Tokenizer:
    def read(path: str) -> dict[bytes, int]:
        lines = Path(path).read_bytes().splitlines()
        return {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines)}

    TikTokenConverter.load_tiktoken_bpe = staticmethod(read)
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    names = [token["content"] for token in config["added_tokens_decoder"].values()]
    tokenizer = TikTokenConverter(str(folder / "tokenizer.model"), extra_special_tokens=names).converted()
    bos = config["bos_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, tokenizer.token_to_id(bos))]
    )
    return tokenizer


def falcon(folder: Path) -> None:
    """Falcon's pre-tokenizers: runs of punctuation, then GPT-2's words, then digits by threes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Punctuation(behavior="contiguous"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
            pre_tokenizers.Digits(individual_digits=False),
            pre_tokenizers.Split(Regex("[0-9][0-9][0-9]"), behavior="isolated", invert=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    train_byte_level(tokenizer, 600, special("<|endoftext|>"))
    save(tokenizer, folder, {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"})


def punctuation(folder: Path) -> None:
    """Every character of punctuation by itself, Unicode's and ASCII's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Punctuation(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    train_byte_level(tokenizer, 600, [])
    save(tokenizer, folder, {"tokenizer_class": "PreTrainedTokenizerFast"})


def train_unigram(vocab_size: int, **options) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    first = ["<unk>", "<s>", "</s>"] + options.pop("first", [])
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size, special_tokens=special(*first), unk_token="<unk>", show_progress=False, **options
    )
    tokenizer.train_from_iterator(training_text(), trainer)
    return tokenizer


def unigram(folder: Path) -> None:
    """Few characters, so that many are unknown and runs of them become one piece."""
    tokenizer = train_unigram(600)
    data = json.loads(tokenizer.to_str())
    known = set("abcdefghijklmnopqrstuvwxyz▁,.")
    first = data["model"]["vocab"][:3]
    data["model"]["vocab"] = first + [e for e in data["model"]["vocab"][3:] if set(e[0]) <= known]
    data["post_processor"] = json.loads(
        processors.TemplateProcessing(single="$A </s>", pair="$A $B </s>", special_tokens=[("</s>", 2)]).__getstate__()
    )
    save(Tokenizer.from_str(json.dumps(data)), folder, {"tokenizer_class": "PreTrainedTokenizerFast"})


def unigram_bytes(folder: Path) -> None:
    """Unknown characters as bytes, a normalizer before, words not cut apart."""
    tokenizer = train_unigram(900, first=[f"<0x{byte:02X}>" for byte in range(256)])
    data = json.loads(tokenizer.to_str())
    data["model"]["byte_fallback"] = True
    data["added_tokens"] = data["added_tokens"][:3]
    data["normalizer"] = json.loads(normalizers.NFKC().__getstate__())
    data["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    data["decoder"] = json.loads(decoders.Sequence(LLAMA2_DECODER).__getstate__())
    save(Tokenizer.from_str(json.dumps(data)), folder, {"tokenizer_class": "PreTrainedTokenizerFast"})


def unigram_spm(folder: Path) -> None:
    """As converters write a SentencePiece model of the kind Unigram: its table of rewrites, runs of spaces joined."""
    from sentencepiece import sentencepiece_model_pb2 as pb2

    train_sentencepiece(
        folder / "model", model_type="unigram", vocab_size=400, hard_vocab_limit=False, normalization_rule_name="nmt_nfkc_cf"
    )
    proto = pb2.ModelProto.FromString((folder / "model").read_bytes())
    (folder / "model").unlink()
    tokenizer = Tokenizer(models.Unigram([(piece.piece, piece.score) for piece in proto.pieces], unk_id=0))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap),
            normalizers.Strip(left=False, right=True),
            normalizers.Replace(Regex(" {2,}"), "▁"),
            normalizers.Lowercase(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.add_special_tokens(special("<unk>", "<s>", "</s>"))
    save(tokenizer, folder, {"tokenizer_class": "PreTrainedTokenizerFast"})


def side_tokens(folder: Path) -> None:
    """A tokenizer.json some of whose tokens, and of their flags, stand only in the files beside it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    train_byte_level(tokenizer, 400, special("<|endoftext|>", "<|im_start|>"))
    token = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}
    stated = {
        "1": {**token, "content": "<|im_start|>", "lstrip": True},
        "402": {**token, "content": "mot", "special": False, "single_word": True, "normalized": True},
        "401": {**token, "content": "<jmp>", "rstrip": True},
    }
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|endoftext|>",
        "pad_token": "[MASK]",
        "mask_token": {"__type": "AddedToken", "content": "<lef>", "lstrip": True, "normalized": False},
        "image_token": "<rig>",
        "additional_special_tokens": ["<|end", "[MASK]"],
        "added_tokens_decoder": stated,
        "add_bos_token": True,
        "model_max_length": 1000000000000000019884624838656,
    }
    save(tokenizer, folder, config)
    write_model_type(folder)


def side_files(folder: Path) -> None:
    """The same from the files of older versions, which win over tokenizer_config.json."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    train_byte_level(tokenizer, 400, special("<|endoftext|>"))
    save(tokenizer, folder, {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "mot", "unk_token": "<rig>"})
    flags = {"lstrip": True, "rstrip": False, "normalized": False, "single_word": False}
    special_tokens = {"pad_token": {**flags, "content": "[MASK]"}, "eos_token": "<|endoftext|>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(special_tokens), encoding="utf-8")
    (folder / "added_tokens.json").write_text(json.dumps({"<jmp>": 401, "[MASK]": 400}), encoding="utf-8")
    write_model_type(folder)


def write_model_type(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "gptj"}\n', encoding="utf-8")


def vocab_merges(folder: Path) -> None:
    """As GPT-2 and GPT-J were published first: no tokenizer.json."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    train_byte_level(tokenizer, 600, [])
    model = json.loads(tokenizer.to_str())["model"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2"] + [" ".join(merge) for merge in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = {"tokenizer_class": "GPT2Tokenizer", "pad_token": "[MASK]", "add_bos_token": True, "add_prefix_space": True}
    write_config(folder, config)
    write_model_type(folder)


JSON_KINDS = {
    "gpt2": gpt2,
    "smollm2": smollm2,
    "llama3": llama3,
    "llama2": llama2,
    "llama2_metaspace": llama2_metaspace,
    "added": added,
    "plain": plain,
    "falcon": falcon,
    "punctuation": punctuation,
    "unigram": unigram,
    "unigram_bytes": unigram_bytes,
    "unigram_spm": unigram_spm,
}
FOLDER_KINDS = {"side_tokens": side_tokens, "side_files": side_files, "vocab_merges": vocab_merges}
SENTENCEPIECE_KINDS = {"spm": spm, "spm_unigram": spm_unigram}
