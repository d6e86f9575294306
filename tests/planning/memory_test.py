"""The memory of a step, from its compiler, whether it fits or not."""

import jax
import pytest

from t5tune import partitioning
from t5tune.models import cpu_attention
from t5tune.planning import chips, estimate, memory, programs
from tests.planning import plans


def step(run, **mesh) -> programs.Step:
  devices = jax.devices()[: 8 if mesh else 1]
  made = partitioning.make_mesh(mesh, devices)
  return programs.training_step(run, made, (64, 16), 10, 10)


def needed(made: programs.Step) -> memory.StepMemory:
  """Returns the memory of a step, compiled quickly rather than well."""
  options = {"xla_backend_optimization_level": 0}
  with jax.set_mesh(made.mesh):
    compiled = made.trace().lower().compile(options)
  return memory.of_compiled(compiled, made.state, 2**40)


def test_a_step_on_one_device_and_on_eight():
  alone, spread = needed(step(plans.RUN)), needed(step(plans.RUN, fsdp=8))
  params = 4 * step(plans.RUN).model.num_params()
  assert alone.params == params and alone.fits
  # Norm scales and the like may stay whole; the rest is split.
  assert params / 8 <= spread.params < params / 7
  assert spread.opt_state < alone.opt_state / 4
  assert alone.peak >= alone.params + alone.opt_state + alone.working
  assert spread.working < alone.working / 4  # two rows of sixteen


def test_rematerialisation_and_microbatches_need_less():
  # Rows so long that activations are most of it.
  def working(**settings) -> int:
    made = partitioning.make_mesh({}, jax.devices()[:1])
    run = plans.run_with(num_encoder_layers=4, num_decoder_layers=1, **settings)
    return needed(programs.training_step(run, made, (512, 64), 10, 10)).working

  none = working()
  assert working(remat="full") < working(remat="dots") < none
  assert working(microbatches=4) < 0.5 * none


@pytest.mark.parametrize(
  "said, peak",
  [
    (
      "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory"
      " space hbm. Used 20.50G of 15.75G hbm. Exceeded hbm capacity by 4.75G.",
      20.5 * 2**30,
    ),
    (
      "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO"
      " temporaries (1.25T) exceeds available HBM (15.75G).",
      1.25 * 2**40,
    ),
    ("RESOURCE_EXHAUSTED: in words nobody has seen", 0),
  ],
)
def test_what_the_compiler_refuses_does_not_fit(said, peak):
  state = step(plans.RUN).state
  refused = memory.of_refused(RuntimeError(said), state, 16 * 2**30)
  assert not refused.fits and refused.working is None
  assert refused.peak == max(peak, refused.params + refused.opt_state)
  assert "this run does not fit" in " ".join(refused.lines())


def test_other_errors_are_not_about_memory():
  with pytest.raises(RuntimeError, match="INTERNAL"):
    memory.of_refused(RuntimeError("INTERNAL: a bug"), step(plans.RUN).state, None)


def test_lines_say_how_full_the_device_is():
  lines = memory.StepMemory(2**30, 2**20, 2**30, 2**31, 2**32).lines()
  assert "2.00 GiB at the peak" in lines[0] and "50%" in lines[1]
  silent = memory.StepMemory(2**30, 2**20, 2**30, 2**31, None)
  assert silent.fits and "does not tell" in silent.lines()[1]


@pytest.mark.parametrize(
  "name,fused", [("v5e:1x1", False), ("h100:1", False), ("cpu", True)]
)
def test_attention_is_planned_as_the_machine_has_it(name, fused):
  made = estimate.prepare(plans.RUN, chips.parse(name))
  assert made.model.fused_attention == fused
  program = step(made).trace().jaxpr
  usable = cpu_attention.usable(made.model.jax_dtype)
  assert ("t5tune_cpu_attention" in str(program)) == (fused and usable)
