#!/usr/bin/env bash
# Writes the jobs beside template.sbatch out of it; with a folder's name, there. Call it after editing the template.
set -euo pipefail
here=$(dirname "$0")
out=${1:-$here}

for job in pretrain finetune ingest; do
  awk -v job="$job" '
    /^#-- / { wanted = index($0 " ", " " job " ") || $0 == "#-- all"; next }
    NR == 1 || wanted
  ' "$here/template.sbatch" >"$out/$job.sbatch"
done
