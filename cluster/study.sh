#!/usr/bin/env bash
# The study on a practice survey: what pre-training is worth at any number of labels. `make study` calls it.
#
#   RECIPE=small      what is compared: a recipe of `python -m trainer study`, or a TOML file
#   GALAXIES=5100     size of the practice survey
#
# Stopped at any point, the same command goes on. Everything is written to build/study/GALAXIES/, the page of a recipe to
# index.html in the folder of its name there.
set -euo pipefail
cd "$(dirname "$0")/.."

recipe=${RECIPE:-small}
galaxies=${GALAXIES:-5100}
data=build/study/$galaxies
out=$data/$(basename "$recipe" .toml)

mkdir -p "$data"
if [[ ! -e $data/survey/catalog.parquet ]]; then # written last: without it the survey is not whole
  rm -rf "$data/survey"
  python -m ingest simulate --galaxies "$galaxies" --out "$data/survey"
fi
if [[ ! -e $data/dataset/dataset.json ]]; then
  python -m ingest run --catalog "$data/survey/catalog.parquet" --frames "$data/survey/frames" --out "$data/dataset"
fi
python -m trainer study --recipe "$recipe" --data "$data/dataset" --out "$out"
