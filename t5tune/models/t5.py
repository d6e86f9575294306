"""The T5 encoder-decoder: T5 1.0, T5 1.1 and FLAN-T5 of any size.

    encoder tokens -> Encoder -> (b, s, d) -> Decoder <- decoder tokens -> logits

Layers of a stack are one module whose parameters have a leading `layers` axis;
the stack is a scan over them (or, by `layer_loop`, the same scan unrolled).
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn import initializers

from t5tune import errors, partitioning
from t5tune.models import attention, layers, stacks
from t5tune.models.lora import LoraConfig

# Fields of `T5Config` that say how a model is computed, and not what.
HOW = ("dtype", "layer_loop", "fused_attention", "remat")
# Those that say how it is run or trained, and not what its parameters are.
NOT_OF_A_CHECKPOINT = (*HOW, "dropout_rate", "lora")


@dataclasses.dataclass(frozen=True)
class T5Config:
  """The architecture of a T5.

  Attributes:
    emb_dim: width of the residual stream (Hugging Face: d_model).
    num_heads: attention heads.
    head_dim: width of a head (d_kv).
    mlp_dim: width of the feed-forward block (d_ff).
    num_encoder_layers: depth of the encoder.
    num_decoder_layers: depth of the decoder.
    vocab_size: rows of the embedding; None means the vocabulary's size, padded
      to a multiple of 128 (T5's own 32,100 becomes 32,128 by the same rule).
    mlp_activations: ('gelu', 'linear') for T5 1.1 and FLAN, ('relu',) for 1.0.
    logits_via_embedding: whether the output shares the embedding (T5 1.0).
    scale_decoder_outputs: whether the decoder's output is scaled by emb_dim**-0.5
      before it becomes logits; None means iff the output shares the embedding, as
      T5 has it.
    dropout_rate: share of activations dropped in training.
    relpos_buckets: buckets of the relative position bias.
    relpos_max_distance: distance from which all positions share a bucket.
    dtype: computation dtype, 'float32' or 'bfloat16'. Parameters, norms, softmax
      and loss are float32.
    layer_loop: 'scan' compiles one layer for all, 'unroll' each layer. 'auto' unrolls
      on the CPU, where a scan is slower, unless `remat` asks for less memory: the CPU's
      compiler gains none from it in unrolled layers. Elsewhere it scans.
    fused_attention: whether attention is one kernel where there is one for the device:
      on a single CPU our own, on a single NVIDIA GPU cuDNN's in bfloat16. No scores are
      kept for the backward pass. XLA's otherwise.
    remat: what the backward pass computes again rather than keeps: 'none'; 'full', of
      each layer all but its input, for a third more operations; 'dots', what is made
      without a kernel, attention scores before all.
    lora: the factors that train beside frozen kernels; None, or one of rank 0, for
      none, when all parameters train.
  """

  emb_dim: int
  num_heads: int
  head_dim: int
  mlp_dim: int
  num_encoder_layers: int
  num_decoder_layers: int
  vocab_size: int | None = None
  mlp_activations: tuple[Literal["gelu", "relu", "linear"], ...] = ("gelu", "linear")
  logits_via_embedding: bool = False
  scale_decoder_outputs: bool | None = None
  dropout_rate: float = 0.1
  relpos_buckets: int = 32
  relpos_max_distance: int = 128
  dtype: str = "float32"
  layer_loop: Literal["auto", "scan", "unroll"] = "auto"
  fused_attention: bool = True
  remat: Literal["none", "dots", "full"] = "none"
  lora: LoraConfig | None = None

  def __post_init__(self):
    sizes = {k: v for k, v in vars(self).items() if type(v) is int}
    for name, value in sizes.items():
      if value < 1:
        raise errors.UserError(f"t5.T5Config.{name} = {value}: it must be at least 1.")
    if not self.mlp_activations:
      raise errors.UserError("t5.T5Config.mlp_activations is empty; name one or two.")
    if not 0 <= self.dropout_rate < 1:
      raise errors.UserError(
        f"t5.T5Config.dropout_rate = {self.dropout_rate}: it must be in [0, 1)."
      )
    if self.lora is not None:
      if self.lora.rank == 0:
        object.__setattr__(self, "lora", None)
      else:
        inputs = layers.mlp_inputs(self.mlp_activations)
        kernels = ("query", "key", "value", "out", *inputs, "wo")
        self.lora.check_targets(kernels)
        if self.lora.rank > self.emb_dim:
          raise errors.UserError(
            f"LORA_RANK = {self.lora.rank}: the kernels of this model are"
            f" {self.emb_dim} wide, and factors are to be narrower. Try 4 to 64."
          )
    if self.dtype not in ("float32", "bfloat16"):
      half = self.dtype in ("float16", "half")
      reason = ": T5's activations overflow its range" if half else ""
      near = errors.did_you_mean(self.dtype, ["bfloat16", "float32"])
      raise errors.UserError(
        f"DTYPE = {self.dtype!r} is not supported{reason}.{'' if half else near} Use"
        " 'bfloat16' or 'float32'."
      )

  @property
  def jax_dtype(self):
    return jnp.dtype(self.dtype)

  @property
  def scales_decoder_outputs(self) -> bool:
    if self.scale_decoder_outputs is None:
      return self.logits_via_embedding
    return self.scale_decoder_outputs

  @property
  def unroll(self) -> bool:
    if self.layer_loop == "auto":
      return jax.default_backend() == "cpu" and self.remat == "none"
    return self.layer_loop == "unroll"


class Encoder(nnx.Module):
  """The encoder stack."""

  def __init__(self, config: T5Config, rngs: nnx.Rngs):
    self.config = config
    self.relpos_bias = layers.RelativePositionBias(config, True, rngs)
    self.layers = stacks.stack(
      stacks.EncoderLayer, config, config.num_encoder_layers, rngs
    )
    self.encoder_norm = layers.LayerNorm(config.emb_dim, config.jax_dtype, rngs)

  def __call__(self, x, segment_ids, dropout_key):
    """Maps embedded tokens (b, s, d) to (b, s, d)."""
    keys = stacks.split_key(dropout_key, 3)
    positions = jnp.arange(x.shape[1])
    bias = self.relpos_bias(positions, positions)
    mask = attention.segment_mask(segment_ids, segment_ids)
    x = layers.dropout(x, self.config.dropout_rate, keys[0], broadcast_axis=-2)

    def body(layer, x, key):
      return layer(x, bias, mask, key)

    x = stacks.scan(body, self.config, self.layers, x, keys[1])
    return layers.dropout(self.encoder_norm(x), self.config.dropout_rate, keys[2])


class Decoder(nnx.Module):
  """The decoder stack, up to its final norm."""

  def __init__(self, config: T5Config, rngs: nnx.Rngs):
    self.config = config
    self.relpos_bias = layers.RelativePositionBias(config, False, rngs)
    self.layers = stacks.stack(
      stacks.DecoderLayer, config, config.num_decoder_layers, rngs
    )
    self.decoder_norm = layers.LayerNorm(config.emb_dim, config.jax_dtype, rngs)
    if not config.logits_via_embedding:
      self.logits_dense = layers.Dense(
        (config.emb_dim, config.vocab_size),
        ("embed", "vocab"),
        initializers.variance_scaling(1.0, "fan_in", "truncated_normal"),
        config.jax_dtype,
        rngs,
        wide=True,
      )

  def __call__(self, x, encoded, segment_ids, encoder_segment_ids, dropout_key):
    """Maps embedded tokens (b, t, d) to (b, t, d), teacher forced."""
    keys = stacks.split_key(dropout_key, 3)
    positions = jnp.arange(x.shape[1])
    bias = self.relpos_bias(positions, positions)
    self_mask = attention.segment_mask(segment_ids, segment_ids, causal=True)
    cross_mask = attention.segment_mask(segment_ids, encoder_segment_ids)
    x = layers.dropout(x, self.config.dropout_rate, keys[0], broadcast_axis=-2)

    def body(layer, x, key):
      return layer(x, encoded, bias, self_mask, cross_mask, key)

    x = stacks.scan(body, self.config, self.layers, x, keys[1])
    x = self.decoder_norm(x)
    return layers.dropout(x, self.config.dropout_rate, keys[2], broadcast_axis=-2)

  def layer_list(self, rows: int) -> list[stacks.DecoderLayer]:
    """Returns the layers one by one, as cached decoding of so many rows wants them."""
    layer_list = stacks.unstack(self.layers)
    layers.lay_out(self.layers, layer_list, rows)
    return layer_list


class T5(nnx.Module):
  """T5: `encode`, `decode` (teacher forced) and the parts of cached decoding.

  Tokens are int32, 0 is padding and, in the decoder, also the start. Segment
  ids are int32, 0 at padding; an unpacked row has a single segment 1.
  """

  def __init__(self, config: T5Config, rngs: nnx.Rngs):
    if config.vocab_size is None:
      raise ValueError("vocab_size is not set; see pad_vocab_size")
    self.config = config
    self.token_embedder = layers.Embed(
      config.vocab_size, config.emb_dim, config.jax_dtype, rngs
    )
    self.encoder = Encoder(config, rngs)
    self.decoder = Decoder(config, rngs)

  def __call__(
    self,
    encoder_input_tokens: jax.Array,
    decoder_input_tokens: jax.Array,
    encoder_segment_ids: jax.Array,
    decoder_segment_ids: jax.Array,
    dropout_key: jax.Array | None = None,
  ) -> jax.Array:
    """Returns float32 logits (b, t, v) of teacher-forced targets.

    Args:
      encoder_input_tokens: int32 (b, s).
      decoder_input_tokens: int32 (b, t), the targets shifted right.
      encoder_segment_ids: int32 (b, s).
      decoder_segment_ids: int32 (b, t).
      dropout_key: PRNG key for training, None for evaluation.
    """
    encoder_key, decoder_key = stacks.split_key(dropout_key, 2)
    encoded = self.encode(encoder_input_tokens, encoder_segment_ids, encoder_key)
    return self.decode(
      encoded,
      encoder_segment_ids,
      decoder_input_tokens,
      decoder_segment_ids,
      decoder_key,
    )

  def encode(self, tokens, segment_ids, dropout_key=None) -> jax.Array:
    """Encodes int32 tokens (b, s) to (b, s, d)."""
    return self.encoder(self.token_embedder(tokens), segment_ids, dropout_key)

  def decode(
    self, encoded, encoder_segment_ids, tokens, segment_ids, dropout_key=None
  ) -> jax.Array:
    """Returns float32 logits (b, t, v) of teacher-forced int32 tokens (b, t)."""
    x = self.token_embedder(tokens)
    x = self.decoder(x, encoded, segment_ids, encoder_segment_ids, dropout_key)
    return self.logits(x)

  def logits(self, x: jax.Array) -> jax.Array:
    """Maps the decoder's output (b, t, d) to float32 logits (b, t, v)."""
    if self.config.scales_decoder_outputs:
      x = x * self.config.emb_dim**-0.5
    if self.config.logits_via_embedding:
      logits = self.token_embedder.attend(x)
    else:
      logits = self.decoder.logits_dense(x)
    return partitioning.constrain(logits, "batch", "length", "vocab")

  def start_decoding(
    self, encoded, encoder_segment_ids, max_length, sequences=1, change_places=False
  ):
    """Returns the function that decodes one position.

    What does not change from one position to the next is computed here, once: the
    layers taken out of their stack, the cross-attention keys and values, the bias.

    Args:
      encoded: (b, s, d), from `encode`.
      encoder_segment_ids: int32 (b, s), 1 at tokens and 0 at padding.
      max_length: t, the number of positions.
      sequences: n, decoded for each row. They share the row's encoding.
      change_places: whether one sequence may go on from what another was, as in beam
        search. All n then share one cache, so that none is copied, and a step's scores
        are of n queries and n keys a position.

    Returns:
      `step(tokens, position, cache, lineage=None)`, which maps int32 tokens (b, n) to
      float32 logits (b, n, v) of the next token and the new cache, and the cache to
      begin with: a tree of arrays (b, ...), some rows of which are a cache of these
      rows. `lineage`, int32 (b, n, t), is for sequences that change places: whose keys
      and values each has at each earlier position.
    """
    config = self.config
    # Not of the list below, whose kernels may be laid out for the few rows of a step.
    cross = [
      layer.encoder_decoder_attention.project_cached(encoded, config.num_heads)
      for layer in self.decoder.layer_list(encoded.shape[0] * encoded.shape[1])
    ]
    rows = len(encoded) * sequences
    layer_list = self.decoder.layer_list(rows)
    if not config.logits_via_embedding:
      logits_dense = self.decoder.logits_dense
      layers.lay_out(logits_dense, [logits_dense], rows)
    cross_mask = (encoder_segment_ids > 0)[:, None, None, :]
    cross_bias = attention.masked(None, cross_mask)
    positions, slots = jnp.arange(max_length), jnp.arange(sequences)
    bias = self.decoder.relpos_bias(positions, positions)  # (h, t, t)
    bias = jnp.repeat(bias, sequences, axis=2 if change_places else 0)
    heads, _, keys = bias.shape
    empty = jnp.zeros((len(encoded), heads, keys, config.head_dim), config.jax_dtype)
    empty = empty.swapaxes(2, 3), empty

    def self_mask(position, lineage):
      past = positions <= position
      if not change_places:
        return past[None, None, None]
      # (b, n, t, n): the keys of each position, seen from each sequence.
      visible = jnp.where(positions == position, slots[:, None], lineage)[..., None]
      visible = (visible == slots) & past[:, None]
      return visible.reshape(len(lineage), 1, sequences, -1)

    def step(tokens, position, cache, lineage=None):
      x = self.token_embedder(tokens)
      bias_here = jax.lax.dynamic_index_in_dim(bias, position, 1)
      own_bias = attention.masked(bias_here, self_mask(position, lineage))
      own, cross, cross_bias = cache
      filled = []
      for layer, layer_own, layer_cross in zip(layer_list, own, cross, strict=True):
        x, layer_own = layer.step(
          x, layer_own, layer_cross, position, own_bias, cross_bias
        )
        filled.append(layer_own)
      return self.logits(self.decoder.decoder_norm(x)), (filled, cross, cross_bias)

    return step, ([empty] * len(layer_list), cross, cross_bias)


def pad_vocab_size(config: T5Config, vocabulary_size: int) -> T5Config:
  """Returns `config` with its `vocab_size` filled in from the vocabulary.

  Args:
    config: an architecture; a `vocab_size` that is set is kept.
    vocabulary_size: pieces and extra ids of the vocabulary.

  Raises:
    UserError: the vocabulary has more ids than the embedding rows.
  """
  if config.vocab_size is None:
    return dataclasses.replace(config, vocab_size=-(-vocabulary_size // 128) * 128)
  if config.vocab_size < vocabulary_size:
    raise errors.UserError(
      f"t5.T5Config.vocab_size = {config.vocab_size} is smaller than the vocabulary's"
      f" {vocabulary_size} ids. Where INIT names weights, set VOCABULARY to theirs; else"
      " set it to None to follow the vocabulary."
    )
  return config
