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

stage "Pre-training without labels, then redshifts: supervised, linear probe, fine-tuned, the catalogue's magnitudes"
python -m trainer study --recipe demo --data "$out/dataset" --out "$out"

stage "Done"
echo "Table, figures and galaxies to look at: $out/index.html"
