"""Arrays as messages of the service, and back."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from errorcast.v1 import service_pb2 as pb

Array = np.ndarray[Any, np.dtype[Any]]
CHUNK = 1 << 20  # bytes in one message
TYPES: dict[str, pb.DataType.ValueType] = {
    "float32": pb.DATA_TYPE_FLOAT32,
    "int64": pb.DATA_TYPE_INT64,
}
_NAMES = {number: name for name, number in TYPES.items()}


def pieces(job_id: str, chunk: Array, kind: pb.DataType.ValueType) -> Iterator[pb.PredictRequest]:
    """Yield a request for some samples, or several where a single sample is large."""
    data = chunk.tobytes()
    for start in range(0, max(1, len(data)), CHUNK):
        piece = pb.Tensor(data=data[start : start + CHUNK])
        request = pb.PredictRequest(input=piece, continued=start + CHUNK < len(data))
        if start == 0:
            request.job_id, request.input.type = job_id, kind
            request.input.shape.extend(chunk.shape)
        yield request


def array(tensor: pb.Tensor) -> Array:
    """Return what a message holds."""
    return np.frombuffer(tensor.data, _NAMES[tensor.type]).reshape(tensor.shape)
