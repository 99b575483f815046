"""Texts for the tokenizer goldens: sentences written for this project and strings made from them by a fixed seed."""

import random

SENTENCES = [
    "The library reads a checkpoint and writes text that a model has thought of.",
    "I'll say it's what they've done; we're sure you'd agree, and he doesn't mind. SHE'S RIGHT, THEY'LL SEE!",
    "A tokenizer cuts words into pieces, and the pieces put together are the words again.",
    "Numbers like 3, 14, 159 and 2653589793 are split in different ways: 1,234.56 or 1e-9 or 0xFF.",
    "Where does the old river go when the winter is over and the ice begins to break?",
    "def attention(query, key, value):\n    scores = query @ key.T / math.sqrt(64)\n    return softmax(scores) @ value\n",
    "for (int i = 0; i < n; ++i) { sum += a[i] * b[i]; }  // inner product\n",
    '{"name": "tiny", "layers": [1, 2, 3], "tied": true, "bias": null}',
    "<html><body class=\"x\">&nbsp;Tea &amp; cake</body></html>",
    "Der Fluß fließt über große Steine, während die Mädchen schöne Lieder hören.",
    "Le garçon a mangé une crème brûlée à l'hôtel où naît l'été.",
    "El niño pequeño comió piñas y después cantó una canción muy alegre.",
    "Zażółć gęślą jaźń, powiedział żółw do źdźbła trawy.",
    "Příliš žluťoučký kůň úpěl ďábelské ódy.",
    "Быстрая лиса прыгает через ленивую собаку, а потом спит под деревом.",
    "Ο γρήγορος σκύλος τρέχει στην παραλία κάθε πρωί.",
    "מזג האוויר היום נעים, והילדים משחקים בגן.",
    "الكتاب على الطاولة والقلم في الحقيبة ١٢٣٤.",
    "नमस्ते दुनिया, आज मौसम बहुत अच्छा है। १२३",
    "আমি বাংলায় গান গাই আর নদীর ধারে হাঁটি।",
    "தமிழ் ஒரு பழமையான மொழி ஆகும்.",
    "ภาษาไทยไม่มีช่องว่างระหว่างคำ",
    "今日はいい天気ですね。東京へ行きましょう。カタカナ",
    "我喜欢读书,也喜欢在公园里散步。你好世界!",
    "안녕하세요, 오늘은 날씨가 참 좋네요.",
    "Tiếng Việt có rất nhiều dấu thanh.",
    "ქართული ენა ძალიან ლამაზია.",
    "Հայերենը հին լեզու է։",
    "አማርኛ በኢትዮጵያ ይነገራል።",
    "ᠮᠣᠩᠭᠣᠯ ᠬᠡᠯᠡ",
    "བོད་སྐད་ནི་སྙན་པོ་ཡིན།",
]

ODD = [
    "", " ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", "\r", " \n", "\n ", " \t\r\n \v\f ", "a ", " a", "  a  b   c    ",
    "\u00a0nbsp\u00a0", "\u3000wide\u3000space", "\u2003em\u2009thin\u200a", "line\u2028sep\u2029para\u0085next",
    "zero\u200bwidth\u200djoin\u200cer\ufeffbom", "\ufeff", "\u180e vowel\u180eseparator", "soft\u00adhyphen",
    "😀", "👩‍👩‍👧‍👦 family", "🏳️‍🌈🏴‍☠️", "👍🏽👍🏿 ok", "🇩🇪🇫🇷🇯🇵", "1️⃣2️⃣#️⃣", "❤️❤", "🫠🪿 new",
    "e\u0301 vs é", "n\u0303a\u0308o\u0302", "Z̷̢̛a̶l̵g̸o̴", "ﬁ ﬂ ﬀ ligatures", "Ａｆｕｌｌ１２ width", "½ ⅓ ² ³ ¼", "Ⅷ ⅻ ⓪ ① ㊿",
    "K Å Ω ℵ ℝ", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟘𝟙𝟚", "𐍈𐌰 𓀀𓂀 𒀀", "\U0010ffff\U000e0001", "\ue000 private \U000f0000",
    "\x00", "a\x00b", "\x01\x02\x1b[31mred\x1b[0m\x7f", "\x80\x9f c1", "\ufffd", "\ufffd\ufffd\ufffe",
    "don't DON'T Don'T 'S 's'S 'll'LL ''' 're", "'ſ ’s ‘re’", "it´s rock'n'roll o'clock", "İstanbul ıI ß ẞ ǅ",
    "a" * 60, "ab" * 100, "=" * 80, "-" * 33, "." * 17, "!?!?!?", "#" * 7, " " * 64 + "x", "\n" * 9 + "x", "\t\t\t\tif x:",
    "x" + " " * 15, "日" * 40, "😀" * 12, "1234567890" * 5, "1 22 333 4444 55555", "٠١٢٣ १२३४ ๑๒๓", "1.000.000,00 €", "$5 £6 ¥7",
    "snake_case camelCase PascalCase kebab-case SCREAMING_CASE", "https://example.org/a?b=c&d=%20#e", "user@example.com", "C:\\path\\file.txt",
    "<s>", "</s>", "<unk>", "<s>hello</s>", "<pad>", "a<unk>b", "<0x41><0x00>", "<0xE2>", "▁", "▁▁ ▁a", "a▁b", "Ġ", "ĠHello Ċ", "Ã©",
    "<|endoftext|>", "text<|endoftext|>more", "<|endoftext|><|endoftext|>", " <|endoftext|> ", "<|endoftext", "<|<|endoftext|>|>",
    "<|im_start|>user\nhi<|im_end|>\n", "<|im_start|>", "<|begin_of_text|>hello<|eot_id|>", "<|start_header_id|>user<|end_header_id|>\n\n", "<|reserved_special_token_0|>",
    "[INST] hi [/INST]", "<<SYS>>\nx\n<</SYS>>", "<|extratoken_1|><|extratoken_12|>", "[MASK]", " [MASK] ", "the[MASK]the", "mot", "a mot b", "motmot", "Ámot mot́",
    "<jmp>", "  <jmp>  ", "x <jmp>\n\ny", "<lef>", "  <lef>  x", "<rig>  \n x",
    "\u0301\u0302", "\u200d\u200d", "\u202eright to left\u202c", "a\u0300\u0301\u0302\u0303b", "\u1112\u1161\u11ab 한",
    "2\u00d73=6", "E=mc²", "∀x∈ℝ: ⌈x⌉ ≥ x", "→←↑↓⇒", "♠♥♦♣", "┌─┐│└┘", "⠓⠑⠇⠇⠕",
    "x\r\ny\r\n\r\nz", "tab\tsep\tvalues\n1\t2\t3\n", "\n\n\n  indented\n", "trailing space \nnext", "a\n b\n  c\n   d", "...\n\n...", "a \n\n b", "é\n\n\té",
]  # fmt: skip


def alphabet() -> list[str]:
    ranges = [(0x20, 0x7E), (0xA0, 0x17F), (0x370, 0x3FF), (0x400, 0x45F), (0x5D0, 0x5EA), (0x620, 0x64A), (0x660, 0x669)]
    ranges += [(0x905, 0x939), (0x93E, 0x94D), (0x966, 0x96F), (0xE01, 0xE3A), (0x1100, 0x1112), (0x2000, 0x200F), (0x2010, 0x2029)]
    ranges += [(0x300, 0x310), (0x2150, 0x2160), (0x3041, 0x3060), (0x4E00, 0x4E40), (0xAC00, 0xAC30), (0xFF10, 0xFF1F), (0x1F600, 0x1F610)]
    return [chr(code) for low, high in ranges for code in range(low, high + 1)] + list("\t\n\r  \n  ")


def corpus(count: int = 560) -> list[str]:
    rng = random.Random(20240811)
    words = [word for sentence in SENTENCES for word in sentence.split()]
    letters = alphabet()
    texts = SENTENCES + ODD
    while len(texts) < count:
        kind = rng.randrange(5)
        if kind == 0:
            text = " ".join(rng.choices(words, k=rng.randint(2, 12)))
        elif kind == 1:
            text = "".join(rng.choices(letters, k=rng.randint(1, 24)))
        elif kind == 2:
            first, second = rng.choices(SENTENCES, k=2)
            text = first[: rng.randint(0, len(first))] + rng.choice(["", " ", "\n", "  \n"]) + second[rng.randint(0, len(second)) :]
        elif kind == 3:
            text = rng.choice(["", " ", "\n"]).join(rng.choices(ODD, k=rng.randint(2, 4)))
        else:
            spaces = [" ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", " \n ", "\u00a0", ""]
            text = "".join(rng.choice(words) + rng.choice(spaces) for _ in range(rng.randint(2, 8)))
        if len(text) <= 160:
            texts.append(text)
    return texts


def training_text() -> list[str]:
    rng = random.Random(7)
    words = [word for sentence in SENTENCES[:16] for word in sentence.split()]
    return SENTENCES * 4 + [" ".join(rng.choices(words, k=12)) for _ in range(300)]
