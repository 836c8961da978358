"""Counting n-grams of numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from netferry.runtime.torch.registry import op


@op
def TfIdfVectorizer(
    X: Tensor,
    *,
    max_gram_length: int,
    max_skip_count: int,
    min_gram_length: int,
    mode: str,
    ngram_counts: list[int],
    ngram_indexes: list[int],
    pool_int64s: list[int] | None = None,
    pool_strings: list[str] | None = None,
    weights: list[float] | None = None,
) -> Tensor:
    """Single items count once, longer n-grams for every distance between their items up to ``max_skip_count``."""
    if pool_int64s is None:
        raise ValueError("TfIdfVectorizer on strings")
    rows = X.reshape(1, -1) if X.dim() < 2 else X
    counts = torch.zeros((rows.shape[0], max(ngram_indexes) + 1), dtype=torch.float32, device=X.device)
    number = 0
    ends = [*ngram_counts[1:], len(pool_int64s)]
    for size, (start, end) in enumerate(zip(ngram_counts, ends, strict=True), 1):
        for at in range(start, end, size):
            column = ngram_indexes[number]
            number += 1
            if not min_gram_length <= size <= max_gram_length:
                continue
            for skip in range(1 if size == 1 else max_skip_count + 1):
                counts[:, column] += _found(rows, pool_int64s[at : at + size], skip + 1)
    share = None if weights is None else torch.tensor(weights, dtype=torch.float32, device=X.device)
    if mode == "IDF":
        counts = (counts > 0).float()
    if mode != "TF" and share is not None:
        counts = counts * share
    return counts[0] if X.dim() < 2 else counts


def _found(rows: Tensor, gram: list[int], step: int) -> Tensor:
    """How often a gram occurs in each row with ``step`` between its items."""
    places = rows.shape[1] - (len(gram) - 1) * step
    if places <= 0:
        return torch.zeros(rows.shape[0], device=rows.device)
    hit = torch.ones((rows.shape[0], places), dtype=torch.bool, device=rows.device)
    for i, item in enumerate(gram):
        hit = hit & (rows[:, i * step : i * step + places] == item)
    return hit.sum(1).float()
