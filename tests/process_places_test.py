"""Tests of how a process finds its place: flags, SLURM, TPU metadata, GPUs."""

import types

import pytest

from t5tune import command_line, errors, process_places

VARIABLES = ("SLURM_STEP_NUM_TASKS", *process_places.FLAGS.values())


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
  for name in VARIABLES:
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setattr(process_places, "_is_tpu_host", lambda: False)


def flags(address=None, count=None, index=None):
  return types.SimpleNamespace(
    coordinator_address=address, num_processes=count, process_id=index
  )


def place(*given):
  found = process_places.find(flags(*given))
  return found and (found.host, found.port, found.count, found.index)


def test_a_process_alone_has_no_place():
  assert place() is None
  assert place("localhost:8476", "1", "0") is None


def test_flags_and_variables_say_the_same(monkeypatch):
  assert place("host0:8476", "4", "3") == ("host0", 8476, 4, 3)
  assert place("[fd00::1]:8476", "4", "3") == ("fd00::1", 8476, 4, 3)
  monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "host0:8476")
  monkeypatch.setenv("JAX_NUM_PROCESSES", "4")
  monkeypatch.setenv("JAX_PROCESS_ID", "2")
  assert place() == ("host0", 8476, 4, 2)
  assert place(None, None, "1") == ("host0", 8476, 4, 1), "a flag comes first"


@pytest.mark.parametrize(
  "given,message",
  [
    (("host0:1", None, "0"), r"missing: --num_processes \(or JAX_NUM_PROCESSES\)"),
    ((None, "2", None), "missing: --coordinator_address .*, --process_id"),
    (("host0:1", "two", "0"), "--num_processes=two: it must be a number 1 or more"),
    (("host0:1", "²", "0"), "--num_processes=²: it must be a number 1 or more"),
    (("host0:1", "2", "2"), "--process_id=2: it must be a number from 0 to 1"),
    (("host0", "2", "0"), "--coordinator_address=host0: give host:port"),
    (("host0:99999", "2", "0"), "give host:port"),
  ],
)
def test_what_is_wrong_with_flags_is_said(given, message):
  with pytest.raises(errors.UserError, match=message):
    place(*given)


def test_every_command_that_trains_or_scores_takes_the_flags():
  parsed = command_line.parser("train", "", ()).parse_args(["--process_id=1"])
  assert vars(parsed).keys() >= process_places.FLAGS.keys()
  assert parsed.process_id == "1" and parsed.num_processes is None


SLURM = {
  "SLURM_JOB_ID": "70001",
  "SLURM_STEP_NODELIST": "node[07-09,12],other3",
  "SLURM_NTASKS": "5",
  "SLURM_STEP_NUM_TASKS": "5",
  "SLURM_PROCID": "4",
  "SLURM_LOCALID": "0",
}


def test_a_step_of_slurm_is_found(monkeypatch):
  for name, value in SLURM.items():
    monkeypatch.setenv(name, value)
  host, port, count, index = place()
  assert (host, count, index) == ("node07", 5, 4)
  assert 1024 < port < 2**16


def test_a_shell_within_an_allocation_is_no_step(monkeypatch):
  # `salloc` and `sbatch` set the job's variables in a shell that is alone.
  for name in SLURM.keys() - {"SLURM_STEP_NUM_TASKS"}:
    monkeypatch.setenv(name, SLURM[name])
  assert place() is None
  monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
  assert place() is None


def test_a_tpu_slice_on_kubernetes_is_found(monkeypatch):
  monkeypatch.setattr(process_places, "_is_tpu_host", lambda: True)
  monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "localhost,worker-1")
  monkeypatch.setenv("TPU_WORKER_ID", "1")
  for name in ("MEGASCALE_COORDINATOR_ADDRESS", "MEGASCALE_NUM_SLICES"):
    monkeypatch.setenv(name, "")  # where unset, the metadata server is asked
  monkeypatch.setenv("MEGASCALE_SLICE_ID", "")
  host, _, count, index = place()
  assert (host, count, index) == ("localhost", 2, 1)


def test_metadata_that_fails_is_explained(monkeypatch):
  monkeypatch.setattr(process_places, "_is_tpu_host", lambda: True)
  monkeypatch.setenv("GCE_METADATA_IP", "127.0.0.1:1")
  with pytest.raises(errors.UserError, match="cannot be told.*Give --coordinator_addr"):
    place()


SAME = ["a", "b", "c", "d"]


@pytest.mark.parametrize(
  "gpus,position,expected",
  [
    ([[]], 0, None),
    ([SAME], 0, None),  # one process: all of them
    ([SAME] * 4, 2, [2]),
    ([SAME] * 2, 1, [2, 3]),
    ([["a"], ["b"]], 1, None),  # a scheduler has given each its own
    ([["a", "b"], ["c", "d"]], 0, None),
  ],
  ids=str,
)
def test_processes_of_a_machine_share_its_gpus(gpus, position, expected):
  assert process_places.share_of_gpus(gpus, position) == expected


def test_gpus_that_do_not_divide_are_refused():
  with pytest.raises(errors.UserError, match=r"3 processes on .* share 4 GPU\(s\)"):
    process_places.share_of_gpus([SAME] * 3, 0)


def test_gpus_are_named_by_what_is_visible(monkeypatch, tmp_path):
  tool = tmp_path / "nvidia-smi"
  tool.write_text("#!/bin/sh\nprintf 'GPU-1\\nGPU-2\\nGPU-3\\n'\n")
  tool.chmod(0o755)
  monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
  monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
  assert process_places.visible_gpus() == ["GPU-1", "GPU-2", "GPU-3"]
  monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 0")
  assert process_places.visible_gpus() == ["GPU-3", "GPU-1"]
  monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-2")
  assert process_places.visible_gpus() == ["GPU-2"]
  monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
  assert process_places.visible_gpus() == []
