"""Codes of a network: real outputs, their signs packed into bytes, and Hamming distances between packed codes."""

from __future__ import annotations

import numpy as np
import torch

from ...core.data.items import Values, fitting_batch
from ...core.errors import InputError
from ...core.heap import give_back
from ...core.model import HashModel
from ...core.progress import track

PAIRS = 2**22  # distances computed at once
BATCH = 64  # items that run together: of more, what layers give leaves the cache, and its memory is new each time
NUMBERS = 500 * 3 * 64 * 64  # in the items that run together, at most


def outputs(model: HashModel, items: Values, batch: int = BATCH) -> np.ndarray:
    """Return the real outputs, float32 (N, bits), of raw items (N, ...), such as uint8 images (N, C, H, W).

    ``batch`` items run at a time, and fewer of large ones, on the device that the network is on.

    Raises:
        InputError: items of another shape than the network takes, or outputs that are not numbers.
    """
    training, asked, batch = model.net.training, min(batch, len(items)), fitting_batch(items, batch, NUMBERS)
    device = next((value.device for value in model.net.parameters()), torch.device("cpu"))
    values = np.empty((len(items), model.arch.bits), dtype=np.float32)
    model.net.eval()
    try:
        with torch.inference_mode():
            for start in track(range(0, len(items), batch), "hashing"):
                inputs = model.arch.input.tensor(items[start : start + batch]).to(device)
                values[start : start + batch] = model.net(inputs).float().cpu().numpy()
                if batch < asked:
                    give_back()  # what large items leave behind is as large as they are
    finally:
        model.net.train(training)
    if np.isnan(values).any():
        first = int(np.flatnonzero(np.isnan(values).any(1))[0])
        raise InputError(f"the network's outputs for item {first} are not numbers (NaN); its weights are unusable")
    return values


def pack(values: np.ndarray) -> np.ndarray:
    """Return codes (N, ceil(bits / 8)) of outputs (N, bits): bit k, little end first, is ``output >= 0``.

    Zero becomes 1 and never a third symbol, as ``numpy.sign`` would have it.
    """
    return np.packbits(values >= 0, axis=1, bitorder="little")


def unpack(codes_nb: np.ndarray, bits: int) -> np.ndarray:
    """Return the bits of packed codes as bool (N, bits).

    Raises:
        InputError: codes of another width than ``bits`` take.
    """
    if codes_nb.dtype != np.uint8 or codes_nb.ndim != 2 or codes_nb.shape[1] != (bits + 7) // 8:
        raise InputError(
            f"codes of {bits} bits are uint8 (N, {(bits + 7) // 8}), found {codes_nb.dtype} {codes_nb.shape}"
        )
    return np.unpackbits(codes_nb, axis=1, count=bits, bitorder="little").astype(bool)


def words(codes_nb: np.ndarray) -> np.ndarray:
    """Return packed codes as uint64 (words, N), padded with zeros: word by word contiguous."""
    count, width = codes_nb.shape
    padded = np.zeros((count, -(-width // 8) * 8), dtype=np.uint8)
    padded[:, :width] = codes_nb
    return np.ascontiguousarray(padded.view(np.uint64).T)


def word_distances(queries: np.ndarray, database: np.ndarray) -> np.ndarray:
    """Return the distances (Q, N) between codes given as :func:`words`: uint8, or uint16 from 256 bits on."""
    total = np.bitwise_count(queries[0][:, None] ^ database[0])
    if len(queries) > 3:
        total = total.astype(np.uint16)
    for left, right in zip(queries[1:], database[1:], strict=True):
        total += np.bitwise_count(left[:, None] ^ right)
    return total


def hamming(queries_nb: np.ndarray, database_nb: np.ndarray) -> np.ndarray:
    """Return the Hamming distances (Q, N) between packed codes; 4 million pairs of temporary memory.

    Raises:
        InputError: codes that are not uint8 or not equally wide.
    """
    if queries_nb.dtype != np.uint8 or database_nb.dtype != np.uint8 or queries_nb.shape[1:] != database_nb.shape[1:]:
        raise InputError(
            f"codes to compare are uint8 of one width, found {queries_nb.dtype} {queries_nb.shape} "
            f"and {database_nb.dtype} {database_nb.shape}"
        )
    queries, database = words(queries_nb), words(database_nb)
    step = max(1, PAIRS // max(1, database.shape[1]))
    blocks = [word_distances(queries[:, i : i + step], database) for i in range(0, queries.shape[1], step)]
    return np.concatenate(blocks) if blocks else word_distances(queries, database)
