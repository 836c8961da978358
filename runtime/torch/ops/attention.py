"""Attention in its forms, and rotary positions."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from netferry.runtime.torch.dtypes import torch_dtype
from netferry.runtime.torch.registry import op


def _heads(x: Tensor, heads: int | None) -> Tensor:
    """B x T x (H*D) as B x H x T x D."""
    if heads is None:
        raise ValueError("Attention of rank 3 needs q_num_heads and kv_num_heads")
    return x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)


@op
def Attention(
    Q: Tensor,
    K: Tensor,
    V: Tensor,
    attn_mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    nonpad_kv_seqlen: Tensor | None = None,
    *,
    is_causal: int = 0,
    kv_num_heads: int | None = None,
    left_window_size: int = -1,
    q_num_heads: int | None = None,
    qk_matmul_output_mode: int = 0,
    right_window_size: int = -1,
    scale: float | None = None,
    softcap: float = 0.0,
    softmax_precision: int | None = None,
    outputs: int = 1,
) -> Tensor | tuple[Tensor, ...]:
    """A row that may look at nothing gives zeros. Causal and window masks count from the end of what is cached."""
    packed = Q.dim() == 3
    if packed:
        Q, K, V = _heads(Q, q_num_heads), _heads(K, kv_num_heads), _heads(V, kv_num_heads)
    if past_key is not None and past_value is not None:
        K, V = torch.cat([past_key, K], 2), torch.cat([past_value, V], 2)
    keys, values = K, V
    rows, columns = Q.shape[2], K.shape[2]
    if Q.shape[1] != K.shape[1]:
        K, V = (x.repeat_interleave(Q.shape[1] // x.shape[1], 1) for x in (K, V))
    if nonpad_kv_seqlen is not None and past_key is None:
        offset: Tensor | int = nonpad_kv_seqlen.reshape(-1, 1, 1, 1) - rows
    else:
        offset = 0 if past_key is None else past_key.shape[2]
    bias = _bias(Q, columns, attn_mask, nonpad_kv_seqlen)
    distance = torch.arange(rows, device=Q.device).unsqueeze(1) + offset - torch.arange(columns, device=Q.device)
    allowed: Tensor | None = None
    for on, rule in (
        (bool(is_causal), distance >= 0),
        (left_window_size >= 0, distance <= left_window_size),
        (right_window_size >= 0, -distance <= right_window_size),
    ):
        if on:
            allowed = rule if allowed is None else allowed & rule
    if allowed is not None:
        bias = torch.where(allowed, 0.0 if bias is None else bias, -math.inf).to(Q.dtype)
    factor = math.sqrt(1 / math.sqrt(Q.shape[3]) if scale is None else scale)
    scores = torch.matmul(Q * factor, (K * factor).transpose(2, 3))
    shown = scores
    if softcap > 0:
        scores = torch.tanh(scores / softcap) * softcap
    biased = scores if bias is None else scores + bias
    if qk_matmul_output_mode == 2:
        shown = biased
    elif qk_matmul_output_mode != 3:
        shown = scores
    weights = torch.softmax(biased if softmax_precision is None else biased.to(torch_dtype(softmax_precision)), -1)
    if bias is not None:
        blind = torch.isneginf(bias.amax(-1, keepdim=True))
        weights = torch.where(blind, torch.zeros_like(weights), weights)
    if qk_matmul_output_mode == 3:
        shown = weights
    y = torch.matmul(weights.to(Q.dtype), V)
    if packed:
        y = y.transpose(1, 2).flatten(2)
    return y if outputs == 1 else (y, keys, values, shown.to(Q.dtype))


def _bias(q: Tensor, columns: int, mask: Tensor | None, lengths: Tensor | None) -> Tensor | None:
    """The mask as numbers to add, as wide as the keys; keys beyond a sequence's length get minus infinity."""
    bias = None
    if mask is not None:
        missing = columns - mask.shape[-1]
        if mask.dtype is torch.bool:
            mask = F.pad(mask, (0, missing), value=False) if missing else mask
            bias = torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, -math.inf)
        else:
            bias = F.pad(mask, (0, missing), value=-math.inf) if missing else mask
    if lengths is not None:
        there = torch.arange(columns, device=q.device) < lengths.reshape(-1, 1, 1, 1)
        bias = torch.where(there, 0.0 if bias is None else bias, -math.inf).to(q.dtype)
    return bias


@op
def RotaryEmbedding(
    X: Tensor,
    cos_cache: Tensor,
    sin_cache: Tensor,
    position_ids: Tensor | None = None,
    *,
    interleaved: int = 0,
    num_heads: int | None = None,
    rotary_embedding_dim: int = 0,
) -> Tensor:
    x = X.transpose(1, 2) if X.dim() == 4 else X.reshape(*X.shape[:2], num_heads or 1, -1)
    size = rotary_embedding_dim or x.shape[3]
    turned, rest = x[..., :size], x[..., size:]
    cos, sin = cos_cache, sin_cache
    if position_ids is not None:
        at = position_ids.to(torch.int64)
        cos, sin = cos[at], sin[at]
    cos, sin = cos.unsqueeze(2), sin.unsqueeze(2)
    a, b = (turned[..., ::2], turned[..., 1::2]) if interleaved else turned.chunk(2, -1)
    real, imaginary = cos * a - sin * b, sin * a + cos * b
    both = [real, imaginary]
    turned = torch.stack(both, -1).flatten(-2) if interleaved else torch.cat(both, -1)
    y = torch.cat([turned, rest], -1)
    return y.transpose(1, 2) if X.dim() == 4 else y.reshape(X.shape)


@op
def LinearAttention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    past_state: Tensor | None = None,
    decay: Tensor | None = None,
    beta: Tensor | None = None,
    *,
    chunk_size: int = 64,
    kv_num_heads: int,
    q_num_heads: int,
    scale: float = 0.0,
    update_rule: str = "gated_delta",
) -> tuple[Tensor, Tensor]:
    """The recurrence, a step at a time, in float32."""
    q, k, v = (_heads(x, h).float() for x, h in ((query, q_num_heads), (key, kv_num_heads), (value, kv_num_heads)))
    gates = None if decay is None else _heads(decay, kv_num_heads).float()
    rates = None if beta is None else beta.transpose(1, 2).unsqueeze(-1).float()
    if past_state is None:
        state = q.new_zeros((q.shape[0], kv_num_heads, k.shape[3], v.shape[3]))
    else:
        state = past_state.float()
    factor = scale or 1 / math.sqrt(k.shape[3])
    found = []
    for t in range(q.shape[2]):
        new = v[:, :, t]
        if gates is not None and "gated" in update_rule:
            state = state * torch.exp(gates[:, :, t]).unsqueeze(-1)
        if rates is not None and "delta" in update_rule:
            new = rates[:, :, t] * (new - torch.einsum("bhdm,bhd->bhm", state, k[:, :, t]))
        state = state + k[:, :, t].unsqueeze(-1) * new.unsqueeze(-2)
        read = state.repeat_interleave(q_num_heads // kv_num_heads, 1)
        found.append(factor * torch.einsum("bhd,bhdm->bhm", q[:, :, t], read))
    y = torch.stack(found, 1).flatten(2)
    return y.to(query.dtype), state.to(query.dtype if past_state is None else past_state.dtype)
