"""Token stores: what is written comes back, or nothing does."""

import itertools
import os
import resource
import subprocess
import sys
import threading

import numpy as np
import pytest
from store_data import examples, write

from t5tune.data import file_pool, token_store
from t5tune.errors import UserError


def same(found, wanted) -> bool:
  pairs = zip(found, wanted, strict=True)
  return all(np.array_equal(a, b) for f, w in pairs for a, b in zip(f, w, strict=True))


def test_reads_what_was_written_in_any_order(tmp_path):
  wanted = examples(50, seed=1)
  write(tmp_path / "s", wanted)
  store = token_store.TokenStore(tmp_path / "s")
  assert len(store) == 50
  order = np.random.default_rng(0).permutation(50)
  assert same(store.read(order), [wanted[i] for i in order])
  assert same([store[7], *store.read([7, 7])], [wanted[7]] * 3)
  lengths = [(len(inputs), len(targets)) for inputs, targets in wanted]
  assert store.lengths.tolist() == [list(pair) for pair in lengths]
  assert store.manifest["examples"] == 50
  assert store.manifest["target_tokens"] == sum(t for _, t in lengths)
  tokens = list(itertools.chain.from_iterable(t.tolist() for _, t in wanted))
  assert store.target_token_counts == {t: tokens.count(t) for t in tokens}
  assert same([store[-1]], [wanted[49]])
  assert store.read([]) == []
  with pytest.raises(IndexError):
    store[50]


@pytest.mark.parametrize("largest,bytes_each", [(2**16 - 1, 2), (2**16, 4)])
def test_tokens_take_no_more_room_than_they_need(tmp_path, largest, bytes_each):
  # Also where the one large token comes last, and examples are many.
  wanted = [*examples(3000, longest=300), (np.array([1]), np.array([largest, 1]))]
  write(tmp_path / "s", wanted)
  store = token_store.TokenStore(tmp_path / "s")
  assert same(store.read(range(3001)), wanted)
  size = (tmp_path / "s" / "tokens.bin").stat().st_size
  assert size == bytes_each * store.lengths.sum()
  assert store[3000][0].dtype == np.int32


def test_keys_are_kept(tmp_path):
  keys = [0, 2**63 - 1, 12345]
  with token_store.writing(tmp_path / "s", keep_rows=False) as writer:
    for key in keys:
      writer.append(*examples(1)[0], {}, key)
  found = token_store.TokenStore(tmp_path / "s").keys
  assert found.dtype == np.int64
  assert found.tolist() == keys


def test_a_token_that_is_none_is_named(tmp_path):
  with pytest.raises(UserError, match="example 1 holds the token -100"):
    write(tmp_path / "s", [*examples(1), (np.array([3]), np.array([5, -100]))])
  assert os.listdir(tmp_path) == []


def test_a_store_without_examples_can_be_read(tmp_path):
  write(tmp_path / "s", [])
  assert len(token_store.TokenStore(tmp_path / "s")) == 0
  assert token_store.problems(tmp_path / "s") == []


def test_rows_keep_every_character(tmp_path):
  rows = [{"text": "line\u2028end\n\r 🙂", "keys": [1, 2]}, {"text": "", "keys": []}]
  with token_store.writing(tmp_path / "s", keep_rows=True) as writer:
    for row in rows:
      writer.append(*examples(1)[0], row, 0)
  assert token_store.TokenStore(tmp_path / "s").rows == rows


def test_nothing_appears_before_the_end(tmp_path):
  path = tmp_path / "deep" / "s"
  with token_store.writing(path, keep_rows=False) as writer:
    writer.append(*examples(1)[0], {}, 0)
    assert not path.exists()
  assert path.is_dir()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, UserError])
def test_an_error_leaves_nothing(tmp_path, error):
  with pytest.raises(error):
    with token_store.writing(tmp_path / "s", keep_rows=True) as writer:
      writer.append(*examples(1)[0], {}, 0)
      raise error
  assert os.listdir(tmp_path) == []


def test_a_killed_writer_leaves_nothing_that_looks_complete(tmp_path):
  code = (
    "import os, signal, sys, numpy as np\n"
    "from t5tune.data import token_store\n"
    "with token_store.writing(sys.argv[1], keep_rows=True) as w:\n"
    "  w.append(np.ones(3, np.int32), np.ones(2, np.int32), {}, 0)\n"
    "  os.kill(os.getpid(), signal.SIGKILL)\n"
  )
  subprocess.run([sys.executable, "-c", code, str(tmp_path / "s")])
  (left,) = tmp_path.iterdir()
  assert left.name.startswith(".s-")
  os.utime(left, (0, 0))  # not of this very second
  wanted = examples(3)
  write(tmp_path / "s", wanted)
  assert same(token_store.TokenStore(tmp_path / "s").read(range(3)), wanted)
  assert os.listdir(tmp_path) == ["s"]


def test_the_first_of_two_writers_wins(tmp_path):
  first = examples(2, seed=1)
  with token_store.writing(tmp_path / "s", keep_rows=False) as writer:
    writer.append(*examples(1, seed=2)[0], {}, 0)
    (scratch,) = tmp_path.iterdir()
    os.utime(scratch, (0, 0))  # old, but still written
    write(tmp_path / "s", first)
    assert scratch.is_dir()
  assert same(token_store.TokenStore(tmp_path / "s").read([0, 1]), first)
  assert os.listdir(tmp_path) == ["s"]


@pytest.mark.parametrize("limit", [0, 3000, 60_000])
def test_a_full_disk_is_named(tmp_path, limit):
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  wanted = examples(200, longest=300)
  try:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    with pytest.raises(UserError, match=r"File too large.*--store_dir") as caught:
      write(tmp_path / "s", wanted)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
  assert str(tmp_path / "s") in str(caught.value)
  assert os.listdir(tmp_path) == []


def test_a_place_below_a_file_is_named(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="--store_dir"):
    write(tmp_path / "file" / "s", examples(1))


def open_files() -> int:
  return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no /proc")
def test_open_files_stay_bounded(tmp_path, monkeypatch):
  monkeypatch.setattr(token_store, "_FILES", file_pool.FilePool(4))
  wanted = [examples(3, seed=k) for k in range(12)]
  for k, made in enumerate(wanted):
    write(tmp_path / str(k), made)
  before = open_files()
  stores = [token_store.TokenStore(tmp_path / str(k)) for k in range(12)]
  assert open_files() == before  # a mixture has more stores than a process files
  for _ in range(2):
    for store, made in zip(stores, wanted, strict=True):
      assert same(store.read([2, 0]), [made[2], made[0]])
  assert open_files() <= before + 4


def test_threads_share_a_small_pool(tmp_path, monkeypatch):
  # The feed's thread and an evaluation read at once.
  monkeypatch.setattr(token_store, "_FILES", file_pool.FilePool(1))
  wanted = [examples(4, seed=k) for k in range(6)]
  for k, made in enumerate(wanted):
    write(tmp_path / str(k), made)
  stores = [token_store.TokenStore(tmp_path / str(k)) for k in range(6)]
  failures = []

  def read(seed):
    rng = np.random.default_rng(seed)
    try:
      for k, i in zip(rng.integers(0, 6, 300), rng.integers(0, 4, 300), strict=True):
        assert same([stores[k][i]], [wanted[k][i]])
    except BaseException as e:
      failures.append(e)

  threads = [threading.Thread(target=read, args=[seed]) for seed in range(3)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert not failures
