"""Gives the vectors of an index their ids back when the file with the ids is lost.

Since 1.0, Chroma numbers vectors in the order in which their ids are first added, and reuses no
number; so the vectors that are not deleted are in the order of the records.  A record whose vector
is also in the log is an anchor: its place in the index is found by the vector itself.  Between two
anchors there are the same records and vectors, unless a deletion had not reached the index yet.  So
where their numbers are equal, each vector's id is certain; where they differ, nothing is guessed.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from vexfs_chroma._migrate._vectors import same

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from vexfs_chroma._migrate._hnsw import VectorFiles

_MOST_ANCHORS = 64
_BLOCK = 4096
_NEAR = 1 - 1e-4


def labels_by_order(
    files: VectorFiles,
    ids: Sequence[str],
    known: Mapping[str, int],
    logged: Mapping[str, NDArray[np.float32]],
) -> tuple[dict[str, int], int]:
    """Labels for ids that have none, and the number of anchors they were found by.

    Args:
        files: The index.
        ids: The records of the collection, in order of insertion.
        known: Labels that are known, from a part of the lost file.
        logged: The vectors that the log has, of some ids.
    """
    labels = files.live_labels
    place_of_label = {label: i for i, label in enumerate(labels)}
    place_of_id = {id: i for i, id in enumerate(ids)}
    anchors = [
        (place_of_id[id], place_of_label[label])
        for id, label in known.items()
        if id in place_of_id and label in place_of_label
    ]
    if not anchors:
        anchors = _by_vector(files, labels, [(place_of_id[id], v) for id, v in logged.items()])
    anchors.sort()
    increasing = all(a[1] < b[1] for a, b in pairwise(anchors))
    if not anchors or not increasing:
        return {}, 0
    found = {}
    before = (-1, -1)
    for anchor in anchors:
        if anchor[0] - before[0] == anchor[1] - before[1]:
            first_id, first_label = before[0] + 1, before[1] + 1
            for i in range(anchor[0] - before[0]):
                found[ids[first_id + i]] = labels[first_label + i]
        else:
            found[ids[anchor[0]]] = labels[anchor[1]]
        before = anchor
    return found, len(anchors)


def _by_vector(
    files: VectorFiles, labels: Sequence[int], logged: list[tuple[int, NDArray[np.float32]]]
) -> list[tuple[int, int]]:
    """Places of ids and of the labels that have their vectors, for some of `logged`."""
    logged.sort(key=lambda item: item[0])
    usable = [item for item in logged if len(item[1]) == files.dimension and np.any(item[1])]
    step = max(1, len(usable) // _MOST_ANCHORS)
    chosen = usable[::step]
    if not chosen or not labels:
        return []
    wanted = _directions(np.stack([vector for _, vector in chosen]))
    places: list[list[int]] = [[] for _ in chosen]
    for first in range(0, len(labels), _BLOCK):
        block = files.vectors(labels[first : first + _BLOCK])
        there = [(first + i, vector) for i, vector in enumerate(block) if vector is not None]
        if not there:
            continue
        near = _directions(np.stack([vector for _, vector in there])) @ wanted.T > _NEAR
        for row, column in zip(*np.nonzero(near), strict=True):
            place, vector = there[int(row)]
            if same(chosen[int(column)][1], vector):
                places[int(column)].append(place)
    return [(chosen[i][0], found[0]) for i, found in enumerate(places) if len(found) == 1]


def _directions(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """The vectors with length 1, or 0."""
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1)
    found: NDArray[np.float64] = wide / np.where(lengths > 0, lengths, 1)[:, None]
    return found
