#!/usr/bin/env bash
# Brings a model to an Android phone: exports it, pushes it, starts the app or a benchmark.
set -euo pipefail

usage() {
  cat <<'END'
usage: mobile_demo/push.sh [options] [MODEL]

MODEL is what `glass-export --model` takes (default: smollm2), or an artifact directory of the
target executorch, which is pushed as it is.

  --apk FILE       install this app first (./gradlew :app:assembleRelease in mobile_demo/android)
  --dtype TYPE     of the export: fp32, int8 or int4 (default: int4)
  --benchmark      measure instead of starting the app; JSON on standard output
  --densities LIST of the benchmark (default: 1.0,0.5)
  --tokens N       of each answer (default: 64)
  --repeats N      of each density (default: 3)
  --threads N      of the engine; 0, the default, lets it decide
  --dry-run        print the commands instead of running them
  -h, --help
END
}

fail() {
  echo "error: $*" >&2
  exit 1
}

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
app=ai.glass.demo
folder=/sdcard/Android/data/$app/files/artifacts
model=smollm2 apk='' dtype=int4 benchmark=false dry=false
densities=1.0,0.5 tokens=64 repeats=3 threads=0

while [ $# -gt 0 ]; do
  case $1 in
    --apk | --dtype | --densities | --tokens | --repeats | --threads)
      [ $# -gt 1 ] || fail "$1: expected a value; see --help"
      declare "${1#--}=$2"
      shift
      ;;
    --benchmark) benchmark=true ;;
    --dry-run) dry=true ;;
    -h | --help) usage && exit ;;
    -*) fail "$1: no such option; see --help" ;;
    *) model=$1 ;;
  esac
  shift
done

# Runs a command, its output to standard error: standard output is for the report.
run() {
  if $dry; then
    printf '%q ' "$@" && echo
  else
    "$@" >&2
  fi
}

# Sets `artifact` to a directory, exporting when the model is not one.
find_artifact() {
  artifact=$model
  [ -e "$model/glass.json" ] && return
  artifact=$repository/artifacts/${model//\//-}-executorch-$dtype
  [ -e "$artifact/glass.json" ] && return
  local exporter=$repository/.venv/bin/glass-export
  $dry || [ -x "$exporter" ] || fail "$exporter: run 'make setup' first"
  run "$exporter" --model "$model" --target executorch --dtype "$dtype" --output "$artifact"
}

# The app makes its folder when it starts.
make_folder() {
  run adb shell am start -W -n "$app/.MainActivity"
  run adb shell am force-stop "$app"
}

measure() {
  local name=$1 report=benchmark.json
  run adb shell rm -f "$folder/$report"
  run adb shell am start -n "$app/.BenchmarkActivity" --es artifact "$name" --es output "$report" \
    --es densities "$densities" --ei tokens "$tokens" --ei repeats "$repeats" --ei threads "$threads"
  $dry && return
  for _ in $(seq 600); do
    if adb shell "[ -e '$folder/$report' ]"; then
      adb shell cat "$folder/$report"
      return
    fi
    sleep 1
  done
  fail "no report within ten minutes; see adb logcat -s GlassBenchmark"
}

$dry || command -v adb >/dev/null || fail "adb is not on the path: install Android's platform-tools"
find_artifact
name=$(basename "$artifact")
[ -z "$apk" ] || run adb install -r "$apk"
make_folder
run adb push --sync "$artifact" "$folder/"
if $benchmark; then
  measure "$name"
else
  run adb shell am start -n "$app/.MainActivity"
fi
