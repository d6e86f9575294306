"""Machines are found by their names, and what is no machine is refused with advice."""

import pytest

from t5tune import errors
from t5tune.planning import chips


@pytest.mark.parametrize(
  "name, layout, count",
  [
    ("v5e:4x4", "v5e:4x4", 16),
    ("v5e-8", "v5e:2x4", 8),
    ("v5litepod-16", "v5e:4x4", 16),
    ("v6e-1", "v6e:1x1", 1),
    ("v6e-64", "v6e:8x8", 64),
    ("v6e-256", "v6e:16x16", 256),
    ("v5p-8", "v5p:2x2x1", 4),  # Google counts its cores
    ("v5p-128", "v5p:4x4x4", 64),
    ("v5p:2x2x4", "v5p:2x2x4", 16),
  ],
)
def test_slices_of_tpus(name, layout, count):
  topology = chips.parse(name)
  assert (topology.layout, topology.count) == (layout, count)


def test_other_machines_have_a_number_of_devices():
  assert chips.parse("h100:8").count == 8
  assert chips.parse("h100").count == chips.parse("cpu").count == 1
  with_network = chips.parse("h100:16")  # two hosts: the network is the narrowest
  assert with_network.link_bandwidth < chips.parse("h100:8").link_bandwidth


@pytest.mark.parametrize(
  "name, said",
  [
    ("v5r-8", "Did you mean 'v5"),
    ("v6e", "is no size of a v6e machine"),
    ("v6e-12", "is no size"),
    ("v6e-2", "is no size"),
    ("v5e:2x2x2", "is no size"),
    ("v5p-3", "is no size"),
    ("h100:4x4", "is no size"),
    ("h100:0", "is no size"),
    ("", "no chip ''"),
    ("cpu:999999999999", "999,999,999,999 devices; at most 4,096"),
    ("v5e:99999x99999", "at most 4,096"),
  ],
)
def test_what_is_no_machine_is_refused(name, said):
  with pytest.raises(errors.UserError) as refused:
    chips.parse(name)
  assert said in str(refused.value)
  assert f"--topology={name}" in str(refused.value)
  assert "v5e:4x4" in str(refused.value)


def test_every_chip_says_where_its_numbers_stand():
  for chip in chips.CHIPS.values():
    assert chip.kind == "cpu" or (chip.source and chip.flops and chip.hbm)
