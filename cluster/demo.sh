#!/usr/bin/env bash
# The main job on this machine: survey frames to redshifts, with no network and no accelerator. `make demo` calls it.
#
#   FRAMES=folder CATALOG=file   use these frames and this catalogue instead of the practice survey
#
# Every stage is a command that also works alone; see README.md. Everything is written to build/demo/.
set -euo pipefail
cd "$(dirname "$0")/.."

frames=${FRAMES:-}
catalog=${CATALOG:-}
out=build/demo
ranks=2

rm -rf "$out"
mkdir -p "$out"
started=$SECONDS
stage() { printf '\n== %4d s  %s\n' $((SECONDS - started)) "$*"; }

if [[ -z $frames ]]; then
  stage "A practice survey in SDSS's own file formats"
  python -m ingest simulate --galaxies 3060 --out "$out/survey"
  frames=$out/survey/frames
  catalog=$out/survey/catalog.parquet
fi

stage "Ingest: frames to a dataset of registered stamps"
python -m ingest run --catalog "$catalog" --frames "$frames" --out "$out/dataset"
python -m sharding verify "$out/dataset"

# One thread a rank: threads that share an operation wait for each other on a busy machine, ranks hardly do.
export OMP_NUM_THREADS=1

# An encoder and a schedule for two cores; the defaults of these commands are the paper's.
stage "Pre-training without labels (MoCo v2)"
torchrun --standalone --nproc-per-node "$ranks" -m trainer pretrain --data "$out/dataset" --out "$out/pretrain" \
  --depth 10 --width 8 --stretch asinh --epochs 20 --batch 64 --queue 1024 --batch-norm-groups 2 \
  --key-momentum 0.99 --lr 0.06 --temperature 0.2

stage "Representations"
python -m trainer embed "$out/pretrain" --data "$out/dataset" --out "$out/embeddings.parquet"

stage "Redshifts: supervised, linear probe, fine-tuned"
python -m trainer study --data "$out/dataset" --init "$out/pretrain" --out "$out" --nproc-per-node "$ranks" \
  --epochs 20 --batch 64 --batch-norm-groups 2 --lr 0.05

stage "Done"
echo "Table, figures and galaxies to look at: $out/index.html"
