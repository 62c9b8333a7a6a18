"""Citation graphs in Planetoid form (Yang 2016): Cora, CiteSeer, PubMed."""

import pickle
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dfa_core import JobError
from dfa_tasks.download import fetch

HOMES = ("https://github.com/kimiyoung/planetoid/raw/master/data/",)
FILES = ("x", "tx", "allx", "ty", "ally", "graph", "test.index")
VALIDATION = 500

# the classes in pickles of these files, written by Python 2 and 3; all others are refused
_ALLOWED = {
    ("collections", "defaultdict"),
    ("__builtin__", "list"),
    ("builtins", "list"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("scipy.sparse.csr", "csr_matrix"),
    ("scipy.sparse._csr", "csr_matrix"),
}
_MOVED = {
    "scipy.sparse.csr": "scipy.sparse",
    "numpy.core.multiarray": "numpy._core.multiarray",
}


@dataclass(frozen=True)
class Graph:
    """A citation graph of n nodes, m directed edges (two per citation), f features and c classes.

    features: (n, f); each row sums to 1.
    edges: (2, m), source and target.
    classes: (n,); -1 for an unknown class.
    train, validation, test: (n,), whether a node belongs to the split.
    """

    features: Tensor
    edges: Tensor
    classes: Tensor
    train: Tensor
    validation: Tensor
    test: Tensor

    @property
    def nodes(self) -> int:
        """Return n."""
        return len(self.classes)

    @property
    def class_count(self) -> int:
        """Return c."""
        return int(self.classes.max()) + 1


class _Unpickler(pickle.Unpickler):
    """Allows only numpy arrays, scipy's sparse matrices and built-in containers."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it contains a {module}.{name}, which is not allowed")
        return super().find_class(_MOVED.get(module, module), name)


@cache
def load_graph(name: str, data_dir: str = "") -> Graph:
    """Read a graph, once per process; download it if it is missing.

    Raises JobError, with the file, for missing or damaged files and for files that do not match.
    """
    names = [f"ind.{name}.{file}" for file in FILES]
    folder = fetch("planetoid", names, HOMES, data_dir)
    x, tx, allx, ty, ally, neighbours = (_unpickle(folder / n) for n in names[:-1])
    order = _test_index(folder / names[-1])
    try:
        return _assemble(x.shape[0], tx, allx, ty, ally, neighbours, order)
    except (ValueError, IndexError, AttributeError, TypeError) as error:
        raise JobError(f"{folder}/ind.{name}.*: the files do not match: {error}") from error


def _assemble(
    trained: int, tx: Any, allx: Any, ty: Any, ally: Any, neighbours: Any, order: Any
) -> Graph:
    """Make a graph of the files' contents; order: the nodes of the test rows.

    Nodes without a row are empty. CiteSeer has 15: isolated, without features or a class.
    """
    known, nodes = allx.shape[0], int(order.max()) + 1
    if len(order) != tx.shape[0] or int(order.min()) < known or len(ally) != known:
        raise ValueError(f"{len(order)} test indices for {tx.shape[0]} rows, {known} others")
    features = np.zeros((nodes, allx.shape[1]), dtype=np.float32)
    labels = np.zeros((nodes, ally.shape[1]), dtype=np.float32)
    features[:known], labels[:known] = allx.toarray(), ally
    features[order], labels[order] = tx.toarray(), ty
    features /= np.maximum(features.sum(axis=1, keepdims=True), 1)
    pairs = {(a, b) for a, found in neighbours.items() for b in found if a != b}
    edges = torch.tensor(sorted(pairs | {(b, a) for a, b in pairs})).T.contiguous()
    if int(edges.max()) >= nodes:
        raise ValueError(f"an edge names node {int(edges.max())}, but there are {nodes} nodes")
    place = torch.arange(nodes)
    return Graph(
        features=torch.from_numpy(features),
        edges=edges,
        classes=torch.from_numpy(np.where(labels.any(axis=1), labels.argmax(axis=1), -1)),
        train=place < trained,
        validation=(place >= trained) & (place < trained + VALIDATION),
        test=torch.isin(place, torch.from_numpy(order)),
    )


def _unpickle(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return _Unpickler(file, encoding="latin1").load()
    except (OSError, EOFError, ValueError, IndexError, KeyError, pickle.UnpicklingError) as error:
        raise JobError(f"{path}: cannot be read: {error}") from error


def _test_index(path: Path) -> "np.ndarray[Any, np.dtype[np.int64]]":
    found = []
    for number, line in enumerate(path.read_text(encoding="ascii", errors="replace").splitlines()):
        if not line.strip().isdigit():
            raise JobError(f"{path}, line {number + 1}: '{line}' is not the number of a node")
        found.append(int(line))
    if not found:
        raise JobError(f"{path}: has no rows")
    return np.array(found, dtype=np.int64)
