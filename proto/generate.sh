#!/bin/sh
# Makes the Python of proto/errorcast/v1 from its .proto files; with --check, only compares.
set -eu
cd "$(dirname "$0")"
python=${PYTHON:-python}
out=.
if [ "${1:-}" = "--check" ]; then out=$(mktemp -d); trap 'rm -r "$out"' EXIT; fi
for name in errorcast/v1/*.proto; do
  "$python" -m grpc_tools.protoc -I . --python_out="$out" --mypy_out="quiet:$out" "$name"
done
"$python" -m grpc_tools.protoc -I . --grpc_python_out="$out" --mypy_grpc_out="quiet:$out" \
  errorcast/v1/service.proto
[ "$out" = . ] && exit 0
for made in "$out"/errorcast/v1/*_pb2*.py*; do
  cmp "$made" "errorcast/v1/$(basename "$made")" || { echo "generated code is not current: run make proto" >&2; exit 1; }
done
