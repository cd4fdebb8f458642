#!/usr/bin/env bash
# The main job on this machine: survey frames to redshifts, with no network and no accelerator. `make demo` calls it.
#
#   FRAMES=folder CATALOG=file   use these frames and this catalogue instead of the practice survey
#
# Every stage is a command that also works alone; see README.md. Results go to build/demo/.
set -euo pipefail
cd "$(dirname "$0")/.."

out=build/demo
frames=${FRAMES:-}
catalog=${CATALOG:-}

if [[ -n $frames && -z $catalog ]] || [[ -z $frames && -n $catalog ]]; then
  echo "demo: error: FRAMES and CATALOG go together: a folder of frames and the catalogue of its objects" >&2
  exit 2
fi

rm -rf "$out"
mkdir -p "$out"
stage() { printf '\n== %s\n' "$*"; }

if [[ -z $frames ]]; then
  stage "A practice survey in SDSS's own formats"
  python -m ingest simulate --out "$out/survey" --galaxies 3060
  frames=$out/survey/frames
  catalog=$out/survey/catalog.parquet
fi

stage "Ingest: frames to a dataset of registered stamps"
python -m ingest run --catalog "$catalog" --frames "$frames" --out "$out/dataset"
python -m sharding verify "$out/dataset"

stage "What the network will see"
python -m trainer views "$out/dataset" --preset hayat2021 --out "$out/views.png"

stage "Pre-training without labels (MoCo v2)"
torchrun --nproc-per-node 2 -m trainer pretrain --data "$out/dataset" --out "$out/pretrain" \
  --depth 10 --width 16 --stretch asinh

stage "Representations and nearest neighbours"
python -m trainer embed "$out/pretrain" --data "$out/dataset" --out "$out/embeddings.parquet"

stage "Redshifts: supervised, linear probe, fine-tuned"
python -m trainer study --data "$out/dataset" --init "$out/pretrain" --out "$out/study"
