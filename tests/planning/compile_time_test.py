"""Scanned, a large model compiles about as fast as a small one."""

import time

import jax
import pytest

from t5tune import partitioning
from t5tune.planning import chips, devices, memory, programs
from tests.planning import plans

pytestmark = pytest.mark.long
# emb_dim, num_heads, head_dim, mlp_dim
SMALL, BASE, XXL = (512, 6, 64, 1024), (768, 12, 64, 2048), (4096, 64, 64, 10240)


def seconds(found: list, width: tuple[int, int, int, int], layers: int) -> float:
  """Returns the processor's seconds that a training step takes to compile."""
  names = ("emb_dim", "num_heads", "head_dim", "mlp_dim")
  run = plans.run_with(
    **dict(zip(names, width, strict=True)),
    **{"num_encoder_layers": layers, "num_decoder_layers": layers},
    **{"vocab_size": 32128, "dtype": "bfloat16", "remat": "full", "batch_size": 64},
  )
  assert run.model.layer_loop == "scan"
  mesh = partitioning.make_mesh({"data": 1, "fsdp": -1}, found)
  step = programs.training_step(run, mesh, (1024, 256), 10, 10)
  jax.clear_caches()
  began = time.process_time()  # of this process: others may keep the machine busy
  memory.of_compiled(step.compile(), step.state, None)
  return time.process_time() - began


def test_xxl_takes_hardly_longer_than_small():
  found = jax.devices()
  seconds(found, SMALL, 8)  # what is done once
  assert seconds(found, XXL, 24) <= 1.5 * seconds(found, SMALL, 8)


@pytest.mark.tpu
@pytest.mark.skipif(not devices.has_libtpu(), reason="libtpu is not installed")
def test_for_a_tpu_depth_takes_no_time():
  found, real = devices.of(chips.parse("v5e:2x4"))
  assert real
  seconds(found, SMALL, 2)
  assert seconds(found, BASE, 24) <= 1.5 * seconds(found, BASE, 2)
