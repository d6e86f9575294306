"""Tests of what jax and accelerators are told before jax starts."""

import os
import pathlib
import subprocess
import sys

import pytest

from t5tune import accelerators

NAMES = (
  *("XLA_FLAGS", "JAX_PLATFORMS", "XLA_PYTHON_CLIENT_MEM_FRACTION"),
  *("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_PREALLOCATE"),
  "XLA_PYTHON_CLIENT_ALLOCATOR",
)
KEPT = ("JAX_COMPILATION_CACHE_DIR", "JAX_COMPILATION_CACHE_MAX_SIZE")


@pytest.fixture
def environment(monkeypatch, tmp_path):
  """Sets the environment of a machine with or without GPUs; returns what is made of it."""

  def environment(gpus=1, **given):
    for name in (*NAMES, *KEPT):
      monkeypatch.setenv(name, "")  # so that it is set back afterwards
      monkeypatch.delenv(name)
    for name, value in given.items():
      monkeypatch.setenv(name, value)
    devices = [f"/dev/nvidia{i}" for i in range(gpus)]
    found = lambda pattern: devices if "nvidia" in pattern else []  # noqa: E731
    monkeypatch.setattr(accelerators.glob, "glob", found)
    accelerators.set_defaults(tmp_path / "store")
    return {name: os.environ[name] for name in NAMES if name in os.environ}

  return environment


def test_a_gpu_gets_memory_and_overlap(environment):
  assert environment() == {
    "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.9",
    "XLA_FLAGS": "--xla_gpu_enable_latency_hiding_scheduler=true",
  }


def test_without_a_gpu_nothing_changes(environment):
  assert environment(gpus=0) == {}
  assert environment(JAX_PLATFORMS="cpu") == {"JAX_PLATFORMS": "cpu"}
  assert "XLA_FLAGS" in environment(JAX_PLATFORMS="cuda,cpu")


@pytest.mark.parametrize("name", NAMES[2:])
def test_what_is_set_about_memory_stays(environment, name):
  made = environment(**{name: "0.5"})
  assert {k: v for k, v in made.items() if k != "XLA_FLAGS"} == {name: "0.5"}


def test_flags_that_are_set_stay(environment):
  given = "--xla_gpu_enable_latency_hiding_scheduler=false --xla_dump_to=here"
  assert environment(XLA_FLAGS=given)["XLA_FLAGS"] == given
  made = environment(XLA_FLAGS="--xla_dump_to=here")["XLA_FLAGS"].split()
  assert made[0] == "--xla_dump_to=here" and len(made) == 2


def test_this_jaxlib_knows_the_flags():
  # XLA aborts the process on a flag that it does not know.
  flags = [f"{name}={value}" for name, value in accelerators._GPU_FLAGS.items()]
  done = subprocess.run(
    [sys.executable, "-c", "import jax; print(jax.numpy.ones(3).sum())"],
    env={**os.environ, "XLA_FLAGS": " ".join(flags), "JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
  )
  assert done.stdout == "3.0\n", done.stderr


def test_compiled_programs_are_kept_in_the_store(environment, tmp_path):
  environment()
  folder = pathlib.Path(os.environ[KEPT[0]])
  assert folder.parent == tmp_path / "store" / "compiled" and folder.is_dir()
  assert int(os.environ[KEPT[1]]) > 2**30
  environment(**{KEPT[0]: "elsewhere"})
  assert os.environ[KEPT[0]] == "elsewhere"


def test_a_folder_that_cannot_be_made_is_done_without(environment, tmp_path):
  (tmp_path / "store").write_text("a file")
  environment()
  assert KEPT[0] not in os.environ


def test_the_second_start_finds_what_the_first_compiled(tmp_path):
  code = f"""
import pathlib
from t5tune import accelerators
accelerators.set_defaults(pathlib.Path({str(tmp_path)!r}))
import jax
seen = []
jax.monitoring.register_event_listener(lambda name, **_: seen.append(name))
jax.jit(lambda x: jax.numpy.sin(x) @ x)(jax.numpy.ones((8, 8)))
print(sum("cache_hit" in name for name in seen))
"""
  environment = {k: v for k, v in os.environ.items() if k not in KEPT}
  environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
  found = [
    int(subprocess.check_output([sys.executable, "-c", code], env=environment))
    for _ in range(2)
  ]
  assert found[0] == 0 < found[1]


@pytest.mark.parametrize(
  "device, platforms, kept",
  [(None, "", True), ("nvidia0", "", False), ("accel0", "", False)]
  + [("accel0", "cpu", True), ("nvidia0", "cpu", True), ("accel0", "tpu", False)],
)
def test_a_cpu_keeps_its_memory(device, platforms, kept, environment, monkeypatch):
  told = []
  monkeypatch.setattr(accelerators.host_memory, "keep_freed", lambda: told.append(1))
  environment()  # sets all back afterwards
  told.clear()
  monkeypatch.setenv("JAX_PLATFORMS", platforms)
  found = lambda pattern: [device] if device and device[:5] in pattern else []  # noqa: E731
  monkeypatch.setattr(accelerators.glob, "glob", found)
  accelerators.set_defaults(pathlib.Path("/nowhere"))
  assert bool(told) == kept
