#!/usr/bin/env bash
# Makes src/examples/gptj-bible: a GPT-J of 4.2 million parameters, from nothing, on the King James Bible. About 20 minutes on a core.
#
#   scripts/data/train_gptj_bible.sh [OUTPUT]     where the float16 folder goes; default: models/gptj-bible-fp16
#
# Needs the release build and the dev set of Python packages, which the tokenizer is trained with.
set -euo pipefail
cd "$(dirname "$0")/../.."
program=build/release/bin/transformers-cpp data=models/training-data

.venv/bin/python scripts/data/prepare_training_data.py
OMP_NUM_THREADS=1 $program finetune --config $data/gptj-bible/config.json --tokenizer $data/gptj-bible \
  --train-file $data/bible.train.txt --eval-file $data/bible.eval.txt --seq-length 256 --batch-size 8 --epochs 4 \
  --learning-rate 1e-3 --lr-schedule cosine --warmup-steps 100 --weight-decay 0.1 --bf16 --num-threads 1 \
  --eval-steps 545 --save-every 545 --save-total-limit 1 --load-best-model-at-end \
  --output models/gptj-bible --log-file models/gptj-bible.jsonl
$program convert --model models/gptj-bible --output "${1:-models/gptj-bible-fp16}" --dtype float16
