"""Small models of sequences, sets and categories, as people write them in PyTorch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Encoder(nn.Module):
    """`nn.TransformerEncoderLayer` with a padding mask, and a head on the mean."""

    def __init__(self, d: int = 16):
        super().__init__()
        self.embed = nn.Linear(6, d)
        self.layer = nn.TransformerEncoderLayer(d, 4, 24, 0.0, "relu", batch_first=True)
        self.head = nn.Linear(d, 5)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        h = self.layer(self.embed(x), src_key_padding_mask=padding)
        return self.head(h.mean(1))


class Attention(nn.Module):
    """Attention written out by hand, with an additive mask; one projection for queries, keys and values."""

    def __init__(self, d: int = 16, heads: int = 4):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d, bias=False)
        self.norm = nn.LayerNorm(d)
        self.head = nn.Linear(d, 3)
        self.drop = nn.Dropout(0.0)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        scores = q @ k.transpose(-2, -1) / math.sqrt(d // self.heads)
        scores = scores.masked_fill(mask[:, None, None, :] == 0, float("-inf"))
        y = (self.drop(torch.softmax(scores, -1)) @ v).transpose(1, 2).reshape(b, t, d)
        return self.head(self.norm(x + self.proj(y)))


class Block(nn.Module):
    """A GPT block: causal self-attention by `scaled_dot_product_attention`, and an MLP with tanh GELU."""

    def __init__(self, d: int, heads: int):
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.attn, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.fc1, self.fc2 = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        parts = self.attn(self.ln1(x)).split(d, 2)
        q, k, v = (p.view(b, t, self.heads, d // self.heads).transpose(1, 2) for p in parts)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).contiguous().view(b, t, d))
        return x + self.fc2(F.gelu(self.fc1(self.ln2(x)), approximate="tanh"))


class GPT(nn.Module):
    """Token and position embeddings, causal blocks, a language-model head."""

    def __init__(self, d: int = 16):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(20, d), nn.Embedding(12, d)
        self.blocks = nn.ModuleList([Block(d, 2), Block(d, 2)])
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, 20, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class CausalByHand(nn.Module):
    """minGPT's attention: a triangular buffer, sliced to the length, and masked_fill."""

    def __init__(self, d: int = 16):
        super().__init__()
        self.tokens = nn.Embedding(20, d)
        self.q, self.k, self.v = nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, d)
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, 20, bias=False)
        self.head.weight = self.tokens.weight  # tied
        self.register_buffer("mask", torch.tril(torch.ones(12, 12)).view(1, 12, 12))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids)
        t = ids.shape[1]
        a = self.q(x) @ self.k(x).transpose(1, 2) / 4.0
        a = a.masked_fill(self.mask[:, :t, :t] == 0, -1e9)
        return self.head(self.norm(x + torch.softmax(a, -1) @ self.v(x)))


class LSTM(nn.Module):
    """Two bidirectional layers, batch first; a classifier on the last hidden states."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(5, 6, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(24, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, (h, _) = self.rnn(x)
        return self.head(torch.cat([y[:, -1], h[-2], h[-1]], -1)), y


class GRU(nn.Module):
    """An embedding, a bidirectional GRU, a plain one on top, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(15, 6)
        self.rnn = nn.GRU(6, 5, batch_first=True, bidirectional=True)
        self.top = nn.GRU(10, 6, batch_first=True)
        self.head = nn.Linear(6, 4)

    def forward(self, ids: Tensor) -> Tensor:
        y, _ = self.rnn(self.embed(ids))
        _, h = self.top(y)
        return self.head(h.squeeze(0))


class ElmanRNN(nn.Module):
    """`nn.RNN` with tanh."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(5, 6, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(x)
        return self.head(y.amax(1))


@torch.jit.script
def _recurrence(x: Tensor, w: Tensor, u: Tensor, b: Tensor) -> Tensor:
    h = torch.zeros(x.size(0), u.size(0), dtype=x.dtype)
    for i in range(x.size(1)):
        if i % 2 == 0:
            h = torch.tanh(x[:, i] @ w + h @ u + b)
        else:
            h = h + torch.sigmoid(x[:, i] @ w + h @ u)
    return h


class ScriptLoop(nn.Module):
    """A recurrence in a scripted loop with a branch in it: Loop and If."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u = nn.Parameter(torch.randn(4, 6) * 0.5), nn.Parameter(torch.randn(6, 6) * 0.4)
        self.b = nn.Parameter(torch.randn(6) * 0.1)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(_recurrence(x, self.w, self.u, self.b))


class HigherOrder(nn.Module):
    """A branch on the data by `torch.cond`, and a recurrence by the higher-order `scan`."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u = nn.Linear(4, 6), nn.Linear(6, 6)
        self.a, self.b = nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        from torch._higher_order_ops.scan import scan

        def step(h: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
            new = torch.tanh(self.w(row) + self.u(h))
            return new, new * 1.0

        h, _ = scan(step, x.new_zeros(x.shape[0], 6), x.transpose(0, 1))
        return torch.cond(h.sum() > 0, lambda v: self.a(v), lambda v: self.b(v).exp(), (h,))

    def eager(self, x: Tensor) -> Tensor:
        """The same in plain PyTorch, for its gradients."""
        h = x.new_zeros(x.shape[0], 6)
        for i in range(x.shape[1]):
            h = torch.tanh(self.w(x[:, i]) + self.u(h))
        return self.a(h) if h.sum() > 0 else self.b(h).exp()


class WhileLoop(nn.Module):
    """Repeats a layer until the activations are small enough, by the higher-order `while_loop`."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Linear(5, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        from torch._higher_order_ops.while_loop import while_loop

        def go_on(i: Tensor, h: Tensor) -> Tensor:
            return i < 4

        def body(i: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            return i + 1, torch.tanh(self.w(h))

        _, h = while_loop(go_on, body, (torch.tensor(0), x))
        return self.head(h)

    def eager(self, x: Tensor) -> Tensor:
        """The same in plain PyTorch, for its gradients."""
        for _ in range(4):
            x = torch.tanh(self.w(x))
        return self.head(x)


class Recommender(nn.Module):
    """Bags of categories, dense features, a product of factors (as DLRM and neural collaborative filtering do)."""

    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(30, 8, mode="sum")
        self.mean = nn.EmbeddingBag(20, 8, mode="mean")
        self.user = nn.Embedding(10, 8, padding_idx=0)
        self.dense = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.BatchNorm1d(8))
        self.top = nn.Sequential(nn.Linear(8 + 6, 8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, user: Tensor, items: Tensor, tags: Tensor, dense: Tensor) -> Tensor:
        d = self.dense(dense)
        z = torch.stack([d, self.user(user), self.bag(items), self.mean(tags)], 1)
        pairs = torch.bmm(z, z.transpose(1, 2))
        rows, columns = torch.tensor([1, 2, 2, 3, 3, 3]), torch.tensor([0, 0, 1, 0, 1, 2])
        return torch.sigmoid(self.top(torch.cat([d, pairs[:, rows, columns]], 1))).squeeze(1)


class Indexing(nn.Module):
    """Einsum, top-k, gather, scatter, cumulative sums, where, sorting, padding, one-hot."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(6, 2, 5) * 0.5)
        self.bias = nn.Parameter(torch.randn(5) * 0.1)
        self.table = nn.Parameter(torch.randn(7, 5) * 0.5)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        y = torch.einsum("bti,ihd->bhtd", x, self.w) + self.bias
        y = torch.softmax(y, -1) @ (torch.eye(5) * torch.tanh(x[:, 0, :5])[:, None, None])
        y = y.mean(1)
        best, where = torch.topk(y.sum(-1), 3, dim=1)
        y = torch.gather(y, 1, where[:, :, None].expand(-1, -1, 5)) * best[:, :, None]
        y = torch.cumsum(y, 1)
        spread = torch.zeros(x.shape[0], 7, 5, dtype=x.dtype)
        spread = spread.scatter_add(1, index[:, :, None].expand(-1, -1, 5), y)
        spread = torch.where(spread > 0, spread * self.table, 0.1 * spread - self.table * spread.exp())
        spread = F.pad(spread, (0, 0, 1, 0), value=0.5)[:, 1:]
        spread = spread + F.one_hot(index[:, 0], 7).to(x.dtype)[:, :, None]
        return self.head(spread.amax(1) - spread.std(1) + spread.norm(dim=1))


class Conv1dAudio(nn.Module):
    """A dilated causal convolution net with gated units and weight normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.inp = nn.Conv1d(2, 6, 1)
        self.filter = nn.utils.parametrizations.weight_norm(nn.Conv1d(6, 6, 2, dilation=2))
        self.gate = nn.Conv1d(6, 6, 2, dilation=2)
        self.pool = nn.AvgPool1d(3, 2, 1)
        self.out = nn.Conv1d(6, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.inp(x)
        p = F.pad(h, (2, 0))
        h = h + torch.tanh(self.filter(p)) * torch.sigmoid(self.gate(p))
        return F.log_softmax(self.out(self.pool(h)), 1)


class Cells(nn.Module):
    """Cells stepped by hand, `nn.MultiheadAttention` with a mask, initial states as inputs, in-place assignment."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.gru = nn.LSTMCell(4, 6), nn.GRUCell(6, 6)
        self.rnn = nn.LSTM(6, 6, batch_first=True)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.last = nn.Linear(6, 3)
        self.h0 = nn.Parameter(torch.randn(1, 1, 6) * 0.3)
        self.blend = nn.Parameter(torch.randn(()))
        self.register_buffer("blocked", torch.triu(torch.ones(5, 5, dtype=torch.bool), 1))

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        h, c, g = state, torch.tanh(state), state
        rows = []
        for t in range(5):
            h, c = self.lstm(x[:, t], (h, c))
            g = self.gru(h, g)
            rows.append(g)
        y = torch.stack(rows, 1)
        a, _ = self.attention(y, y, y, attn_mask=self.blocked, need_weights=False)
        h0 = self.h0.expand(-1, x.shape[0], -1).contiguous()
        z, _ = self.rnn(a, (h0, torch.zeros_like(h0)))
        z = z.clone()
        z[:, 0] = z[:, 0] * 2 + self.blend
        z[:, 1:3, ::2] *= self.blend
        return self.last(z[:, -1] * z.prod(1)) + F.softmin(z.sum(1)[:, :3], -1) * self.blend


class T5(nn.Module):
    """RMS normalization, rotary positions, grouped key heads, SwiGLU, relative position bias by buckets."""

    def __init__(self, d: int = 16) -> None:
        super().__init__()
        self.tokens = nn.Embedding(20, d)
        self.scale1, self.scale2 = nn.Parameter(torch.ones(d)), nn.Parameter(torch.ones(d))
        self.q, self.kv, self.o = nn.Linear(d, d, bias=False), nn.Linear(d, d, bias=False), nn.Linear(d, d, bias=False)
        self.gate, self.up, self.down = nn.Linear(d, 24), nn.Linear(d, 24), nn.Linear(24, d)
        self.bias = nn.Embedding(8, 4)

    @staticmethod
    def norm(x: Tensor, scale: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * scale

    @staticmethod
    def rotate(x: Tensor) -> Tensor:
        t, d = x.shape[-2], x.shape[-1]
        angles = torch.arange(t)[:, None] / 100 ** (torch.arange(0, d, 2) / d)
        a, b = x[..., ::2], x[..., 1::2]
        return torch.stack([a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()], -1).flatten(-2)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids)
        b, t, d = x.shape
        h = self.norm(x, self.scale1)
        q = self.rotate(self.q(h).view(b, t, 4, d // 4).transpose(1, 2))
        k, v = self.kv(h).view(b, t, 2, 2, d // 4).permute(2, 0, 3, 1, 4)
        k, v = self.rotate(k).repeat_interleave(2, 1), v.repeat_interleave(2, 1)
        far = (torch.arange(t)[None] - torch.arange(t)[:, None]).abs().clamp(max=7)
        scores = q @ k.transpose(-1, -2) * 0.5 + self.bias(far).permute(2, 0, 1)
        x = x + self.o((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, t, d))
        h = self.norm(x, self.scale2)
        return (x + self.down(F.silu(self.gate(h)) * self.up(h))) @ self.tokens.weight.t()
