"""LSTM, GRU and RNN with their usual activations over sequences of one length.

On the way forward the first two keep a tape, which spares the way back the products of the way forward.
"""

from __future__ import annotations

from graphrt.definitions import Into, KernelSite, kernel
from graphrt.runtime.kernels import _gru, _lstm, _rnn
from graphrt.runtime.kernels._recurrent_walks import layer


@kernel("LSTM")
def lstm_of_columns(site: KernelSite) -> Into | None:
    """All four gates of a step in one product and one tanh."""
    of = layer(site, "LSTM")
    if of is None:
        return None
    fill = _lstm.Forward(of, has_tape=site.outputs[3] is not None)
    return site.into(fill, scratch=fill.scratch)


@kernel("LSTM.vjp[x,w,r,b,initial_h,initial_c,p]")
def lstm_cotangents_of_columns(site: KernelSite) -> Into | None:
    """Back along the tape; one product for all weights, for many steps at a time."""
    of = layer(site, "LSTM")
    if of is None or site.inputs.get("tape") is None:
        return None
    fill = _lstm.Backward(of)
    return site.into(fill, scratch=fill.scratch)


@kernel("GRU")
def gru_of_columns(site: KernelSite) -> Into | None:
    """Both gates of a step in one product and one tanh."""
    of = layer(site, "GRU")
    if of is None:
        return None
    fill = _gru.Forward(of, bool(site.attributes["linear_before_reset"]))
    return site.into(fill, scratch=fill.scratch)


@kernel("GRU.vjp[x,w,r,b,initial_h]")
def gru_cotangents_of_columns(site: KernelSite) -> Into | None:
    """Back along the tape; one product for the weights of each kind, for many steps at a time."""
    of = layer(site, "GRU")
    if of is None or site.inputs.get("tape") is None:
        return None
    fill = _gru.Backward(of, bool(site.attributes["linear_before_reset"]))
    return site.into(fill, scratch=fill.scratch)


@kernel("RNN")
def rnn_of_columns(site: KernelSite) -> Into | None:
    """One product and one tanh for each step."""
    of = layer(site, "RNN")
    if of is None:
        return None
    fill = _rnn.Forward(of)
    return site.into(fill, scratch=fill.scratch)


@kernel("RNN.vjp[x,w,r,b,initial_h]")
def rnn_cotangents_of_columns(site: KernelSite) -> Into | None:
    """Back along y; one product for all weights, for many steps at a time."""
    of = layer(site, "RNN")
    if of is None or site.inputs.get("y") is None:
        return None
    fill = _rnn.Backward(of)
    return site.into(fill, scratch=fill.scratch)


KERNELS = (
    lstm_of_columns, lstm_cotangents_of_columns, gru_of_columns, gru_cotangents_of_columns, rnn_of_columns,
    rnn_cotangents_of_columns,
)  # fmt: skip
