"""Goldens of the metrics: scikit-learn, seqeval, and the formulas of SQuAD 1.1's evaluation script."""

import collections
import re
import string
import warnings
from pathlib import Path

import torch

from .collection import Collection

PACKAGES = [
    "scikit-learn==1.9.1",
    "scipy==1.17.1",
    "joblib==1.6.0",
    "threadpoolctl==3.8.0",
    "narwhals==2.29.0",
    "cloudpickle==3.1.2",
    "seqeval==1.2.2",
]

# name: number of classes, whether the predictions lean to one that is never right
CLASSES = {"two": 2, "five": 5, "nine": 9}


def classes() -> Collection:
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    collection = Collection()
    samples = {}
    for name, count in CLASSES.items():
        generator = torch.Generator().manual_seed(count)
        references = torch.randint(count, (60,), generator=generator)
        guesses = torch.randint(count, (60,), generator=generator)
        samples[name] = (torch.where(torch.rand(60, generator=generator) < 0.6, references, guesses), references)
    samples["one_never_right"] = (torch.tensor([0, 3, 3, 1]), torch.tensor([0, 1, 2, 1]))
    samples["no_positive"] = (torch.tensor([0, 0, 0]), torch.tensor([0, 0, 0]))
    for name, (predictions, references) in samples.items():
        averages = ["macro", "micro", "weighted"] + ["binary"] * (name in ("two", "no_positive"))
        scores = {
            average: precision_recall_fscore_support(references, predictions, average=average, zero_division=0)[:3]
            for average in averages
        }
        collection.add(
            name,
            dict(predictions=predictions, references=references),
            accuracy=float(accuracy_score(references, predictions)),
            scores={average: [float(value) for value in values] for average, values in scores.items()},
        )
    return collection


TAGS = {
    "iob2": (["B-PER", "I-PER", "O", "B-LOC"], ["B-PER", "I-PER", "O", "B-LOC"]),
    "cut_short": (["B-PER", "O", "O", "B-LOC", "I-LOC"], ["B-PER", "I-PER", "O", "B-LOC", "I-LOC"]),
    "without_beginning": (["I-PER", "I-PER", "O", "I-LOC", "I-ORG"], ["B-PER", "I-PER", "O", "B-LOC", "B-ORG"]),
    "neighbours": (["B-PER", "B-PER", "I-PER", "I-LOC"], ["B-PER", "I-PER", "B-PER", "B-LOC"]),
    "iobes": (["B-X", "E-X", "S-Y", "E-Y", "I-Y", "O", "S-Z"], ["B-X", "I-X", "E-X", "S-Y", "O", "O", "S-Z"]),
    "dashes_and_no_type": (["B-a-b", "I-a-b", "B", "I", "O"], ["B-a-b", "I-a-c", "B", "I", "O"]),
    "nothing": (["O", "O"], ["O", "O"]),
}


def entities() -> Collection:
    from seqeval.metrics import f1_score, precision_score, recall_score
    from seqeval.metrics.sequence_labeling import get_entities

    collection = Collection()
    pairs = {name: ([predicted], [expected]) for name, (predicted, expected) in TAGS.items()}
    pairs["all"] = [list(column) for column in zip(*TAGS.values())]
    for name, (predictions, references) in pairs.items():
        scores = [float(score(references, predictions)) for score in (precision_score, recall_score, f1_score)]
        found = [get_entities(tags) for tags in predictions]
        collection.add(name, {}, predictions=predictions, references=references, scores=scores, entities=found)
    return collection


ANSWERS = [
    ("the cat", ["A Cat!"]),
    ("Denver Broncos", ["The Denver Broncos won", "Broncos"]),
    ("in 1066, at Hastings", ["1066"]),
    ("", ["nothing"]),
    ("the", ["a"]),
    ("U.S.A.", ["usa"]),
    ("  many\tspaces \n here", ["many spaces here"]),
    ("Ünïcode ÉTÉ", ["ünïcode été"]),
    ("thé an anthem", ["anthem thé"]),
    ("“the” end", ["“ ” end"]),
    ("well-known fact", ["wellknown facts", "well known fact"]),
    ("a b b c", ["b b b"]),
]


def normalized(text: str) -> str:
    kept = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())


def word_f1(prediction: str, reference: str) -> float:
    ours, theirs = normalized(prediction).split(), normalized(reference).split()
    common = sum((collections.Counter(ours) & collections.Counter(theirs)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(ours), common / len(theirs)
    return 2 * precision * recall / (precision + recall)


def answers() -> Collection:
    collection = Collection()
    for i, (prediction, references) in enumerate(ANSWERS):
        collection.add(
            f"answer_{i:02}",
            {},
            prediction=prediction,
            references=references,
            normalized=normalized(prediction),
            exact_match=float(max(normalized(prediction) == normalized(reference) for reference in references)),
            f1=max(word_f1(prediction, reference) for reference in references),
        )
    return collection


def write(folder: Path) -> None:
    warnings.simplefilter("ignore")  # of scores without a denominator
    classes().write(folder / "metrics_classes.safetensors")
    entities().write(folder / "metrics_entities.safetensors")
    answers().write(folder / "metrics_answers.safetensors")
