"""T5 once more, in float64 numpy, slow and plain: what the model must compute.

After Raffel et al. 2020 (https://arxiv.org/abs/1910.10683, section 2.1) and, for the
gated block, Shazeer 2020 (https://arxiv.org/abs/2002.05202). One row at a time, no
padding, no batch, no cache; parameters under T5X's names.
"""

import math

import numpy as np

EPSILON = 1e-6


def rms_norm(x, scale):
  """Layer norm without mean and bias: x / sqrt(mean(x²) + ε) · scale."""
  return x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + EPSILON) * scale


def gelu(x):
  """The tanh approximation (Hendrycks & Gimpel 2016)."""
  return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


ACTIVATIONS = {"gelu": gelu, "relu": lambda x: np.maximum(x, 0), "linear": lambda x: x}


def softmax(x):
  e = np.exp(x - x.max(axis=-1, keepdims=True))
  return e / e.sum(axis=-1, keepdims=True)


def bucket(distance: int, causal: bool, buckets: int, max_distance: int) -> int:
  """Bucket of a key `distance` places after the query.

  Half of the buckets stand for one distance each, the others grow by equal factors up
  to `max_distance`, beyond which all share the last one. Where keys may follow, those
  that do have the upper half.
  """
  first = 0
  if causal:
    distance = max(-distance, 0)
  else:
    buckets //= 2
    first = buckets if distance > 0 else 0
    distance = abs(distance)
  exact = buckets // 2
  if distance < exact:
    return first + distance
  growth = math.log(distance / exact) / math.log(max_distance / exact)
  return first + min(exact + int(growth * (buckets - exact)), buckets - 1)


def position_bias(table, length: int, causal: bool, config):
  """Bias (h, t, s) of every query and key, from a table (h, buckets)."""
  sizes = (config.relpos_buckets, config.relpos_max_distance)
  index = [
    [bucket(s - t, causal, *sizes) for s in range(length)] for t in range(length)
  ]
  return table[:, np.array(index)]


class Reference:
  """A T5 with given parameters."""

  def __init__(self, config, tensors):
    self.config = config
    self.p = {name: np.asarray(value, np.float64) for name, value in tensors.items()}

  def attention(self, where, x, y, bias, causal=False):
    """Attends from x (t, d) to y (s, d); T5 does not divide scores by sqrt(k)."""
    heads = self.config.num_heads
    q, k, v = (
      (z @ self.p[f"{where}/{part}/kernel"]).reshape(len(z), heads, -1)
      for part, z in (("query", x), ("key", y), ("value", y))
    )
    scores = np.einsum("thk,shk->hts", q, k) + bias
    if causal:
      scores = np.where(np.tril(np.ones(scores.shape[1:], bool)), scores, -np.inf)
    out = np.einsum("hts,shk->thk", softmax(scores), v).reshape(len(x), -1)
    return out @ self.p[f"{where}/out/kernel"]

  def mlp(self, where, x):
    names = self.config.mlp_activations
    hidden = 1.0
    for i, name in enumerate(names):
      wi = "wi" if len(names) == 1 else f"wi_{i}"
      hidden = hidden * ACTIVATIONS[name](x @ self.p[f"{where}/{wi}/kernel"])
    return hidden @ self.p[f"{where}/wo/kernel"]

  def encode(self, tokens):
    """Encodes tokens (s,) to (s, d)."""
    x = self.p["token_embedder/embedding"][tokens]
    bias = self.p["encoder/relpos_bias/rel_embedding"]
    bias = position_bias(bias, len(tokens), False, self.config)
    for i in range(self.config.num_encoder_layers):
      at = f"encoder/layers_{i}"
      h = rms_norm(x, self.p[f"{at}/pre_attention_layer_norm/scale"])
      x = x + self.attention(f"{at}/attention", h, h, bias)
      h = rms_norm(x, self.p[f"{at}/pre_mlp_layer_norm/scale"])
      x = x + self.mlp(f"{at}/mlp", h)
    return rms_norm(x, self.p["encoder/encoder_norm/scale"])

  def logits(self, encoder_tokens, decoder_tokens):
    """Logits (t, v) of the token after each of `decoder_tokens` (t,)."""
    encoded = self.encode(encoder_tokens)
    x = self.p["token_embedder/embedding"][decoder_tokens]
    bias = self.p["decoder/relpos_bias/rel_embedding"]
    bias = position_bias(bias, len(decoder_tokens), True, self.config)
    for i in range(self.config.num_decoder_layers):
      at = f"decoder/layers_{i}"
      h = rms_norm(x, self.p[f"{at}/pre_self_attention_layer_norm/scale"])
      x = x + self.attention(f"{at}/self_attention", h, h, bias, causal=True)
      h = rms_norm(x, self.p[f"{at}/pre_cross_attention_layer_norm/scale"])
      x = x + self.attention(f"{at}/encoder_decoder_attention", h, encoded, 0.0)
      h = rms_norm(x, self.p[f"{at}/pre_mlp_layer_norm/scale"])
      x = x + self.mlp(f"{at}/mlp", h)
    x = rms_norm(x, self.p["decoder/decoder_norm/scale"])
    if self.config.scales_decoder_outputs:
      x = x / math.sqrt(self.config.emb_dim)
    if self.config.logits_via_embedding:
      return x @ self.p["token_embedder/embedding"].T
    return x @ self.p["decoder/logits_dense/kernel"]
