"""`finetune` by task: question answering, token and sequence classification against loops of HF's examples; evaluations on the way."""

import contextlib
import json
import resource
import sys
import unittest
from pathlib import Path

import torch
import transformers
from finetune_test import log_of
from program import ProgramTest
from safetensors.torch import load_file

sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts"))
from goldens.metrics import normalized, word_f1  # noqa: E402

try:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
except ImportError:
    EventAccumulator = None

QUESTIONS = [
    {
        "question": "What does the library open?",
        "context": "The library opens a folder. It writes it back, naïve or not.",
        "answers": {"text": ["a folder", "folder"], "answer_start": [18, 20]},
    },
    {
        "question": "Who wrote?",
        "context": "Éva wrote a long letter to her friend in the north. " * 3 + "Then Otto answered from the sea.",
        "answers": {"text": ["Otto"], "answer_start": [161]},
    },
    {"question": "Where?", "context": "Über den Wolken, Üb and home", "start": 17, "end": 19},
]
WORDS = [
    {"tokens": ["Éva", "Smith", "lives", "in", "New", "York"], "labels": ["B-PER", "I-PER", "O", "O", "B-LOC", "I-LOC"]},
    {"words": ["Nothing", "here"], "ner_tags": [0, 0]},
    {"tokens": ["Otto", "left", "Tokyo"], "labels": ["B-PER", "O", "B-LOC"]},
]
# Byte-level, byte-level with a beginning-of-sequence token, and with the space before a word and single bytes in the tokenizer.
TOKENIZERS = ("smollm2", "llama3", "llama2_metaspace")
TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def trained(model, batches: list, steps: int) -> list:
    """Losses of AdamW at 5e-3 over batches in order, beginning again when they run out."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.0)
    losses = []
    for step in range(steps):
        loss = model(**batches[step % len(batches)]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def padded(samples: list, pad: int) -> dict:
    length = max(len(sample["input_ids"]) for sample in samples)
    fill = {"input_ids": pad, "attention_mask": 0, "labels": -100}
    return {
        name: torch.tensor([s[name] + [fill[name]] * (length - len(s[name])) if isinstance(s[name], list) else s[name] for s in samples])
        for name in samples[0]
    }


def question_features(tokenizer, entry: dict, length: int, stride: int) -> list:
    """prepare_train_features of HF's run_qa.py."""
    if "start" in entry:
        start, end = entry["start"], entry["end"]
    else:
        start = entry["answers"]["answer_start"][0]
        end = start + len(entry["answers"]["text"][0])
    encoded = tokenizer(
        entry["question"], entry["context"], truncation="only_second", max_length=length, stride=stride,
        return_overflowing_tokens=True, return_offsets_mapping=True,
    )
    features = []
    for i, offsets in enumerate(encoded["offset_mapping"]):
        ids, sequence = encoded["input_ids"][i], encoded.sequence_ids(i)
        first, last = sequence.index(1), len(ids) - 1 - sequence[::-1].index(1)
        feature = {"input_ids": ids, "attention_mask": [1] * len(ids), "start_positions": 0, "end_positions": 0}
        if offsets[first][0] <= start and offsets[last][1] >= end:
            feature["start_positions"] = max(place for place in range(first, last + 1) if offsets[place][0] <= start)
            feature["end_positions"] = min(place for place in range(first, last + 1) if offsets[place][1] >= end)
        features.append((feature, offsets, range(first, last + 1)))
    return features


def best_answer(model, entry: dict, features: list) -> str:
    best = (-float("inf"), "")
    for feature, offsets, context in features:
        output = model(input_ids=torch.tensor([feature["input_ids"]]))
        starts, ends = output.start_logits[0], output.end_logits[0]
        for start in starts.topk(min(20, len(starts))).indices.tolist():
            for end in ends.topk(min(20, len(ends))).indices.tolist():
                if start in context and end in context and start <= end < start + 30:
                    score = (starts[start] + ends[end]).item()
                    best = max(best, (score, entry["context"][offsets[start][0] : offsets[end][1]]), key=lambda c: c[0])
    return best[1]


def tag_pairs(model, sample: dict) -> tuple:
    """Predicted and right tags of a sample's words."""
    found = model(input_ids=torch.tensor([sample["input_ids"]])).logits[0].argmax(-1).tolist()
    pairs = [(TAGS[tag], TAGS[label]) for tag, label in zip(found, sample["labels"]) if label >= 0]
    return tuple(zip(*pairs))


def entities(tags: tuple) -> set:
    """(kind, first, last) of tags; an "I-" that continues nothing begins."""
    spans = []
    for place, tag in enumerate(tags):
        kind = tag[2:]
        if tag[0] == "I" and spans and spans[-1][0] == kind and spans[-1][2] == place - 1:
            spans[-1] = (kind, spans[-1][1], place)
        elif tag != "O":
            spans.append((kind, place, place))
    return set(spans)


class FinetuneTasksTest(ProgramTest):
    def head(self, kind: type, name: str, tokenizer: str = "smollm2", **changes):
        """A fresh tiny LLaMA with this head, as a folder with a tokenizer."""
        torch.manual_seed(13)
        config = transformers.LlamaConfig(
            vocab_size=1200, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=256, pad_token_id=0, **changes,
        )
        folder = self.folder / name
        kind(config).save_pretrained(folder)
        self.add_tokenizer(folder, tokenizer)
        return folder

    def lines(self, name: str, entries: list):
        path = self.folder / name
        path.write_text("".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries))
        return path

    def finetune(self, model, data, *options, output="tuned", quiet=("--quiet",)) -> list:
        log = self.folder / "log.jsonl"
        arguments = ("--batch-size", 2, "--learning-rate", "5e-3", "--lr-schedule", "constant", "--no-shuffle", "--log-file", log)
        self.run_program("finetune", "--model", model, "--train-file", data, "--output", self.folder / output, *arguments, *options, *quiet)
        return log_of(log)

    def assert_losses(self, log: list, expected: list) -> None:
        found = [entry["loss"] for entry in log if "loss" in entry]
        # Of the largest: with every step a difference in the last bit grows, while the loss itself shrinks.
        torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=0, atol=1e-5 * max(expected))

    def test_questions_are_learned_and_answered_as_by_python(self):
        for kind in TOKENIZERS:
            with self.subTest(tokenizer=kind):
                self.check_questions(kind)

    def check_questions(self, kind: str) -> None:
        folder = self.head(transformers.LlamaForQuestionAnswering, f"qa_{kind}", kind)
        data = self.lines("qa.jsonl", QUESTIONS)
        options = ("--task", "question-answering", "--seq-length", 64, "--doc-stride", 12)
        log = self.finetune(folder, data, *options, "--max-steps", 8, "--eval-file", data)

        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        by_entry = [question_features(tokenizer, entry, 64, 12) for entry in QUESTIONS]
        features = [feature for group in by_entry for feature, *_ in group]
        self.assertGreater(len(features), len(QUESTIONS))
        samples = [features[i % len(features)] for i in range(16)]
        batches = [padded(samples[i : i + 2], 0) for i in range(0, 16, 2)]
        model = transformers.AutoModelForQuestionAnswering.from_pretrained(folder).train()
        self.assert_losses(log, trained(model, batches, 8))

        answers = [best_answer(model.eval(), *pair) for pair in zip(QUESTIONS, by_entry)]
        accepted = [e["answers"]["text"] if "answers" in e else [e["context"][e["start"] : e["end"]]] for e in QUESTIONS]
        f1 = [max(word_f1(answer, text) for text in texts) for answer, texts in zip(answers, accepted)]
        exact = [max(normalized(answer) == normalized(text) for text in texts) for answer, texts in zip(answers, accepted)]
        self.assertAlmostEqual(log[-1]["eval_f1"], 100 * sum(f1) / 3, places=6)
        self.assertAlmostEqual(log[-1]["eval_exact_match"], 100 * sum(exact) / 3, places=6)

    def test_answers_that_were_learned_are_found(self):
        folder = self.head(transformers.LlamaForQuestionAnswering, "qa")
        data = self.lines("qa.jsonl", [QUESTIONS[0], QUESTIONS[2]])
        log = self.finetune(folder, data, "--task", "question-answering", "--max-steps", 40, "--eval-file", data)
        self.assertEqual((log[-1]["eval_exact_match"], log[-1]["eval_f1"]), (100, 100))

    def test_tokens_are_classified_as_by_python(self):
        for kind in ("smollm2", "llama2_metaspace"):  # transformers puts no space before the words of a llama3 tokenizer
            with self.subTest(tokenizer=kind):
                self.check_words(kind)

    def check_words(self, kind: str) -> None:
        labels = dict(id2label=dict(enumerate(TAGS)), label2id={tag: i for i, tag in enumerate(TAGS)}, classifier_dropout=0.0)
        folder = self.head(transformers.LlamaForTokenClassification, f"ner_{kind}", kind, **labels)
        data = self.lines("ner.jsonl", WORDS)
        log = self.finetune(folder, data, "--task", "token-classification", "--max-steps", 30, "--eval-file", data)

        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, add_prefix_space=True)
        samples = []
        for entry in WORDS:
            words, tags = entry.get("tokens") or entry["words"], entry.get("labels") or entry["ner_tags"]
            encoded = tokenizer(words, is_split_into_words=True)
            places = encoded.word_ids()
            ids = [TAGS.index(tag) if isinstance(tag, str) else tag for tag in tags]
            aligned = [-100 if word is None or word in places[:i] else ids[word] for i, word in enumerate(places)]
            samples.append({"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"], "labels": aligned})
        batches = [padded([samples[i % 3], samples[(i + 1) % 3]], 0) for i in range(0, 60, 2)]
        model = transformers.AutoModelForTokenClassification.from_pretrained(folder).train()
        self.assert_losses(log, trained(model, batches, 30))
        pairs = [tag_pairs(model.eval(), sample) for sample in samples]
        right = [ours == theirs for found, expected in pairs for ours, theirs in zip(found, expected)]
        found, expected = ([entities(tags) for tags in column] for column in zip(*pairs))
        matched = sum(len(ours & theirs) for ours, theirs in zip(found, expected))
        total = sum(map(len, found)) + sum(map(len, expected))
        self.assertAlmostEqual(log[-1]["eval_accuracy"], sum(right) / len(right))
        self.assertAlmostEqual(log[-1]["eval_f1"], 2 * matched / total)
        self.assertGreater(matched, 0)

    def test_texts_are_classified_and_judged(self):
        folder = self.head(transformers.LlamaForSequenceClassification, "classes")
        data = self.lines("classes.jsonl", [{"text": "good", "label": 1}, {"text": "bad", "label": 0}])
        others = self.lines("others.jsonl", [{"text": text, "label": 1} for text in ("good", "good", "bad")])
        log = self.finetune(folder, data, "--task", "sequence-classification", "--max-steps", 20, "--eval-file", others)
        self.assertAlmostEqual(log[-1]["eval_accuracy"], 2 / 3)
        self.assertAlmostEqual(log[-1]["eval_f1"], 0.8)
        self.assertNotIn("perplexity", log[-1])

    def test_the_best_evaluation_is_written_and_early_stopping_ends_the_run(self):
        model = self.talking_model()
        data, held_out = self.lines("a.jsonl", [{"text": "It writes a folder back."}]), self.lines("b.jsonl", [{"text": "The library opens."}])
        often = ("--max-steps", 40, "--save-every", 2, "--eval-steps", 2, "--eval-file", held_out, "--save-total-limit", 1)
        best = ("--load-best-model-at-end", "--early-stopping-patience", 2, "--learning-rate", "5e-2")
        log = self.finetune(model, data, *often, *best[:-2])
        evaluations = {entry["step"]: entry["eval_loss"] for entry in log if "eval_loss" in entry}
        step = min(evaluations, key=evaluations.get)
        self.assertEqual(max(evaluations), step + 4)
        left = [path.name for path in (self.folder / "tuned").glob("checkpoint-*")]
        self.assertEqual(left, [f"checkpoint-{step}"])
        saved, written = (load_file(self.folder / "tuned" / name / "model.safetensors") for name in (left[0], "."))
        for key, tensor in saved.items():
            self.assertTrue(torch.equal(written[key], tensor), key)

    def test_an_average_of_the_weights_is_evaluated_and_written(self):
        model = self.talking_model()
        data = self.lines("a.jsonl", [{"text": "It writes a folder back."}])
        self.finetune(model, data, "--max-steps", 3, "--ema-decay", 0, output="last")
        self.finetune(model, data, "--max-steps", 3, "--save-every", 1, "--ema-decay", 0.5, output="average")
        folders = [self.folder / "average" / f"checkpoint-{step}" for step in (1, 2, 3)]
        steps = [load_file(folder / "model.safetensors") for folder in folders]
        found, last = (load_file(self.folder / name / "model.safetensors") for name in ("average", "last"))
        for key, tensor in found.items():
            torch.testing.assert_close(tensor, (steps[0][key] + steps[1][key]) / 4 + steps[2][key] / 2)
            self.assertTrue(torch.equal(last[key], steps[2][key]), key)

    def test_every_optimizer_and_memory_saver_learns_and_goes_on_bit_for_bit(self):
        model = self.talking_model()
        data = self.lines("a.jsonl", [{"text": "It writes a folder back."}, {"text": "The library opens."}])
        runs = {
            "8bit": ("--optim", "adamw_8bit", "--neftune-noise-alpha", 1),
            "lion": ("--optim", "lion", "--learning-rate", "1e-3"),
            "adafactor": ("--optim", "adafactor"),
            "sgd": ("--optim", "sgd", "--learning-rate", "1e-1"),
            "backward": ("--step-in-backward", "--max-grad-norm", 0, "--optim", "adamw_8bit"),
        }
        log = self.folder / "log.jsonl"
        for name, options in runs.items():
            with self.subTest(run=name):
                rate = () if "--learning-rate" in options else ("--learning-rate", "5e-3")
                command = ("finetune", "--model", model, "--train-file", data, "--max-steps", 6, "--batch-size", 2, *rate)
                command += ("--save-every", 3, "--log-file", log, "--quiet", "--output", self.folder / name, *options)
                self.run_program(*command)
                whole = (self.folder / name / "model.safetensors").read_bytes()
                entries = log_of(log)
                self.assertLess(entries[-1]["loss"], entries[0]["loss"])
                (self.folder / name / "checkpoint-6" / "training_state.safetensors").unlink()
                self.run_program(*command, "--resume")
                self.assertEqual((self.folder / name / "model.safetensors").read_bytes(), whole)

    @unittest.skipUnless(EventAccumulator, "there is no tensorboard to read with")
    def test_tensorboard_reads_the_curves_of_a_resumed_run(self):
        model, board = self.talking_model(), self.folder / "board"
        data = self.lines("a.jsonl", [{"text": "It writes a folder back."}])
        options = ("--save-every", 2, "--max-steps", 4, "--tensorboard", board, "--eval-file", data)
        self.finetune(model, data, *options)
        (self.folder / "tuned" / "checkpoint-4" / "training_state.safetensors").unlink()
        log = self.finetune(model, data, *options, "--resume")
        self.assertEqual(len(list(board.iterdir())), 2)
        events = EventAccumulator(str(board)).Reload()
        self.assertEqual(sorted(events.Tags()["scalars"])[:3], ["eval/loss", "eval/perplexity", "train/epoch"])
        for column in ("loss", "learning_rate", "grad_norm"):
            scalars = events.Scalars(f"train/{column}")
            self.assertEqual([scalar.step for scalar in scalars], [1, 2, 3, 4])
            expected = torch.tensor([entry[column] for entry in log[:4]])
            torch.testing.assert_close(torch.tensor([scalar.value for scalar in scalars]), expected)
        self.assertEqual(events.Scalars("eval/loss")[-1].step, 4)

    def test_a_full_disk_in_mid_save_leaves_a_checkpoint_to_resume_from(self):
        model = self.talking_model()
        data = self.lines("a.jsonl", [{"text": "It writes a folder back."}])
        options = ("--max-steps", 4, "--save-every", 2)
        self.finetune(model, data, *options, output="whole")
        self.finetune(model, data, "--max-steps", 4, "--save-every", 2)
        (self.folder / "tuned" / "model.safetensors").unlink()
        (self.folder / "tuned" / "checkpoint-4" / "training_state.safetensors").unlink()
        command = ("finetune", "--model", model, "--train-file", data, "--output", self.folder / "tuned", *options, "--resume")
        common = ("--batch-size", 2, "--learning-rate", "5e-3", "--lr-schedule", "constant", "--no-shuffle")
        with file_size_limit(50_000):
            self.assert_fails(*command, *common, says=("checkpoint-4", "File too large"))
        self.assertFalse((self.folder / "tuned" / "model.safetensors").exists())
        self.run_program(*command, *common)
        weights = [(self.folder / name / "model.safetensors").read_bytes() for name in ("whole", "tuned")]
        self.assertEqual(*weights)

    def test_bad_lines_are_named(self):
        tagged = dict(id2label=dict(enumerate(TAGS)), label2id={tag: i for i, tag in enumerate(TAGS)})
        qa, ner = self.head(transformers.LlamaForQuestionAnswering, "qa"), self.head(transformers.LlamaForTokenClassification, "ner", **tagged)

        def fails(model, task: str, entry: dict, *says, options=()):
            data = self.lines("bad.jsonl", [QUESTIONS[0] if task == "question-answering" else WORDS[0], entry])
            command = ("finetune", "--model", model, "--task", task, "--train-file", data, "--output", self.folder / "x", "--max-steps", 1)
            self.assert_fails(*command, *options, says=("bad.jsonl line 2", *says))

        question = {"question": "Q?", "context": "some words"}
        fails(qa, "question-answering", question, "answers", "start")
        fails(qa, "question-answering", question | {"answers": {"text": ["none"], "answer_start": [0]}}, "none", "character 0")
        fails(qa, "question-answering", question | {"answers": {"text": [], "answer_start": []}}, "answers")
        fails(qa, "question-answering", question | {"start": 3, "end": 99}, "99")
        fails(qa, "question-answering", {"context": "some", "start": 0, "end": 1}, "question")
        long = question | {"question": "why " * 60, "context": "words " * 60, "start": 0, "end": 3}
        fails(qa, "question-answering", long, "question", "64", options=("--seq-length", 64, "--doc-stride", 8))
        fails(ner, "token-classification", {"tokens": ["a"], "labels": [7]}, "7", "5 classes")
        fails(ner, "token-classification", {"tokens": ["a"], "labels": ["B-ORG"]}, "B-ORG")
        fails(ner, "token-classification", {"tokens": ["a", "b"], "labels": [0]}, "2 words", "1 labels")
        fails(ner, "token-classification", {"labels": [0]}, "tokens")
        text = self.folder / "a.txt"
        text.write_text("text")
        self.assert_fails("finetune", "--model", qa, "--task", "question-answering", "--train-file", text, "--output", "x", status=2)
        data = self.lines("qa.jsonl", QUESTIONS)
        self.assert_fails("finetune", "--model", qa, "--train-file", data, "--output", "x", "--eval-steps", 2, status=2)
        self.assert_fails(
            "finetune", "--model", self.talking_model(), "--train-file", self.lines("t.jsonl", [{"text": "some text"}]), "--output",
            self.folder / "x", "--max-steps", 1, "--step-in-backward", says=("step_in_backward", "max_grad_norm"),
        )


@contextlib.contextmanager
def file_size_limit(size: int):
    """No file of a process begun meanwhile may grow beyond it, as on a full disk."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


if __name__ == "__main__":
    unittest.main()
