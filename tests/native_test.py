"""Tests of C++ that is compiled on the machine it runs on."""

import logging
import os
import shlex
import subprocess
import sys

import pytest

from t5tune import native

SOURCE = """
#include "xla/ffi/api/ffi.h"
namespace ffi = xla::ffi;
using Floats = ffi::Buffer<ffi::F32>;
static ffi::Error Twice(Floats x, ffi::ResultBuffer<ffi::F32> y) {
  for (size_t i = 0; i < x.element_count(); ++i) {
    y->typed_data()[i] = 2 * x.typed_data()[i];
  }
  return ffi::Error::Success();
}
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    twice, Twice, ffi::Ffi::Bind().Arg<Floats>().Ret<Floats>());
"""
CALL = """
import pathlib, sys, jax, jax.numpy as jnp
from t5tune import native
assert native.register(pathlib.Path(sys.argv[1]), ("twice",))
call = jax.ffi.ffi_call("t5tune_twice", jax.ShapeDtypeStruct((3,), jnp.float32))
print(jax.jit(call)(jnp.arange(3.0)))
"""


@pytest.fixture
def source(tmp_path, monkeypatch):
  """A file to compile, with an empty folder for what comes of it."""
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  path = tmp_path / "twice.cc"
  path.write_text(SOURCE)
  return path


def needs_compiler():
  try:
    native._compiler()
  except FileNotFoundError as e:
    pytest.skip(str(e))


def run(source) -> str:
  done = subprocess.run(
    [sys.executable, "-c", CALL, str(source)],
    env={**os.environ, "JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


def test_what_is_compiled_runs_and_is_kept(source):
  needs_compiler()
  assert run(source) == "[0. 2. 4.]\n"
  (library,) = native.folder().iterdir()  # and nothing of how it was made
  made = library.stat().st_mtime_ns
  assert run(source) == "[0. 2. 4.]\n"
  assert [p.stat().st_mtime_ns for p in native.folder().iterdir()] == [made]
  source.write_text(SOURCE.replace("2 *", "3 *"))
  assert run(source) == "[0. 3. 6.]\n"


def refused(source, caplog) -> str:
  with caplog.at_level(logging.WARNING):
    assert not native.register(source, ("twice",))
    assert not native.register(source, ("twice",))  # told once
  (record,) = caplog.records
  assert not native.folder().exists() or not list(native.folder().iterdir())
  return record.getMessage()


def test_without_a_compiler_all_goes_on(source, caplog, monkeypatch):
  monkeypatch.setenv("CXX", "")
  monkeypatch.setenv("PATH", str(source.parent))
  assert refused(source, caplog) == (
    "twice.cc was not compiled, so this CPU takes longer: there is no C++"
    " compiler (c++, g++, clang++)"
  )


def test_what_does_not_compile_is_told(source, caplog):
  needs_compiler()
  source.write_text("int f( {")
  assert "error" in refused(source, caplog)


def test_cxx_names_the_compiler(source, caplog, monkeypatch):
  script = "import sys; sys.exit('another compiler was asked')"
  monkeypatch.setenv("CXX", shlex.join([sys.executable, "-c", script]))
  assert refused(source, caplog).endswith(": another compiler was asked")


def test_a_folder_that_cannot_be_written_is_told(source, caplog, monkeypatch):
  needs_compiler()
  monkeypatch.setenv("XDG_CACHE_HOME", str(source))  # a file
  with caplog.at_level(logging.WARNING):
    assert not native.register(source, ("twice",))
  assert "Not a directory" in caplog.text
