"""Tests of the roads to many hosts, with stand-ins for gcloud, srun and python."""

import os
import pathlib
import shutil
import subprocess

import pytest

from t5tune import process_places

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Two "hosts" are two folders. The state of the request is a file; commands on a host
# run in its folder.
GCLOUD = """#!/bin/bash
cd "$STAND_IN"
echo "$*" >> calls
[ "$1 $2" = "compute tpus" ] || exit 1
for word in "$@"; do
  case $word in
    --worker=*) worker=${word#--worker=} ;;
    --command=*) command=${word#--command=} ;;
  esac
done
[ "${worker:-}" = all ] && hosts="host0 host1" || hosts=host${worker:-}
case "$3 $4" in
  "queued-resources create") echo ACTIVE > state; mkdir -p host0 host1 ;;
  "queued-resources describe") cat state 2> /dev/null ;;
  "queued-resources delete") rm -rf state host0 host1 ;;
  "tpu-vm scp") for host in $hosts; do cp "$5" "$host/${6#*:}"; done ;;
  "tpu-vm ssh")
    [ "$(cat state)" = ACTIVE ] || exit 255
    for host in $hosts; do
      (cd "$host" && HOST=$host bash -c "$command") || exit
    done ;;
  *) exit 1 ;;
esac
"""
# Its environments hold a python whose trainings end with the next of the statuses.
PYTHON = """#!/bin/bash
if [ "$2" = venv ]; then
  mkdir -p venv/bin
  echo '#!/bin/bash' > venv/bin/pip
  cp "$0" venv/bin/python
  chmod +x venv/bin/*
  exit
fi
printf '[%s]' "$@"
echo
statuses=$STAND_IN/statuses.$HOST
status=$(head -n 1 "$statuses")
sed -i 1d "$statuses"
if [ "$status" = preempted ]; then
  [ "$HOST" = host0 ] && echo SUSPENDED > "$STAND_IN/state"
  sleep 60
fi
exit "$status"
"""


@pytest.fixture
def cloud(tmp_path):
  """A folder whose `bin` stands first on the path."""
  (tmp_path / "bin").mkdir()
  write(tmp_path / "bin" / "gcloud", GCLOUD)
  write(tmp_path / "bin" / "python3.11", PYTHON)
  return tmp_path


def write(path: pathlib.Path, script: str) -> None:
  path.write_text(script)
  path.chmod(0o755)


def tpu_vm(cloud, *arguments, **environment):
  settings = {
    **{"TPU_ZONE": "zone-a", "TPU_TYPE": "v5litepod-8", "TPU_POLL": "0.2"},
    **{"STAND_IN": str(cloud), "PATH": f"{cloud}/bin:{os.environ['PATH']}"},
    **environment,
  }
  script = ROOT / "scripts" / "tpu_vm"
  if not (ROOT / ".git").exists():
    pytest.skip("installs what git holds, and this is no checkout")
  return subprocess.run(
    [script, *arguments], capture_output=True, text=True, env=settings, timeout=60
  )


def calls(cloud) -> list[str]:
  return (cloud / "calls").read_text().splitlines()


def statuses(cloud, *wanted):
  for host in ("host0", "host1"):
    (cloud / f"statuses.{host}").write_text("".join(f"{s}\n" for s in wanted))


def test_a_training_on_tpus_survives_preemption(cloud):
  statuses(cloud, 75, "preempted", 0)
  arguments = ["--gin_file=demo.gin", "--gin.MESH={'data': 1, 'fsdp': -1}"]
  done = tpu_vm(cloud, "keep", *arguments)
  assert done.returncode == 0, done.stderr
  assert "was taken away; requesting another" in done.stdout
  made = [line for line in calls(cloud) if "queued-resources create" in line]
  assert len(made) == 2
  assert "--accelerator-type=v5litepod-8" in made[0] and "--spot" in made[0]
  # Every host ran the same command, word for word, and holds the checkout.
  ran = "[-m][t5tune.train]" + "".join(f"[{word}]" for word in arguments)
  for host in ("host0", "host1"):
    assert ran in (cloud / host / "train.log").read_text()
    assert (cloud / host / "t5tune" / "setup.py").is_file()
  assert tpu_vm(cloud, "status").stdout == "0\n"
  assert tpu_vm(cloud, "delete").returncode == 0
  assert not (cloud / "state").exists()


def test_a_mistake_on_tpus_is_shown_and_not_repeated(cloud):
  statuses(cloud, 2, 0)
  done = tpu_vm(cloud, "keep", "--gin_file=absent.gin")
  assert done.returncode == 2
  assert "[--gin_file=absent.gin]" in done.stdout, "the end of the log"
  assert (cloud / "statuses.host0").read_text() == "0\n", "one training only"


def test_a_training_that_only_stops_is_given_up(cloud):
  statuses(cloud, *[75] * 20)
  done = tpu_vm(cloud, "keep", "--gin_file=demo.gin")
  assert done.returncode == 2
  assert "the training stopped 4 times at once" in done.stderr


def test_stop_reaches_the_training_of_every_host(cloud):
  statuses(cloud, 0)
  assert tpu_vm(cloud, "create").returncode == 0
  assert tpu_vm(cloud, "install").returncode == 0
  slow = (
    "#!/bin/bash\ntrap 'exit 75' TERM\ntouch started\nwhile :; do sleep 0.1; done\n"
  )
  for host in ("host0", "host1"):
    write(cloud / host / "venv" / "bin" / "python", slow)
  assert tpu_vm(cloud, "run", "--gin_file=demo.gin").returncode == 0
  wait_for(lambda: all((cloud / h / "started").exists() for h in ("host0", "host1")))
  assert tpu_vm(cloud, "status").stdout == "running\n"
  assert tpu_vm(cloud, "stop").returncode == 0
  wait_for(
    lambda: all((cloud / h / "train.status").exists() for h in ("host0", "host1"))
  )
  assert tpu_vm(cloud, "status").stdout == "75\n"


def wait_for(condition):
  for _ in range(100):
    if condition():
      return
    subprocess.run(["sleep", "0.1"])
  raise AssertionError("it did not come to be")


def test_what_tpu_vm_needs_is_said(cloud):
  assert "TPU_ZONE is not set" in tpu_vm(cloud, "create", TPU_ZONE="").stderr
  assert "TPU_TYPE is not set" in tpu_vm(cloud, "create", TPU_TYPE="").stderr
  usage = tpu_vm(cloud, "crate")
  assert usage.returncode == 2
  assert "scripts/tpu_vm keep ARGUMENTS" in usage.stderr


SRUN = """#!/bin/bash
echo "srun $*" >> "$STAND_IN/calls"
exit "$STATUS"
"""


@pytest.mark.parametrize(
  "status,restarts,expected,requeued",
  [
    (0, 0, 0, False),
    (2, 0, 2, False),
    (75, 50, 0, True),
    (137, 0, 0, True),
    (137, 3, 137, False),
    (130, 0, 130, False),
  ],
)
def test_slurm_queues_again_what_is_not_finished(
  cloud, status, restarts, expected, requeued
):
  write(cloud / "bin" / "srun", SRUN)
  write(cloud / "bin" / "scontrol", '#!/bin/bash\necho "$*" >> "$STAND_IN/calls"\n')
  settings = {
    **{"STAND_IN": str(cloud), "PATH": f"{cloud}/bin:{os.environ['PATH']}"},
    **{"STATUS": str(status), "SLURM_JOB_ID": "7"},
    "SLURM_RESTART_COUNT": str(restarts),
  }
  arguments = ["--gin_file=demo.gin", "--gin.MESH={'data': -1}"]
  script = ROOT / "scripts" / "slurm.sh"
  done = subprocess.run([script, *arguments], env=settings, capture_output=True)
  assert done.returncode == expected
  first, *more = calls(cloud)
  assert first.endswith("python -m t5tune.train " + " ".join(arguments))
  assert more == (["requeue 7"] if requeued else [])


def test_slurm_signals_the_processes_and_not_the_script_alone():
  text = (ROOT / "scripts" / "slurm.sh").read_text()
  assert "#SBATCH --signal=TERM@90" in text and "#SBATCH --requeue" in text


def test_the_jobset_agrees_with_itself_and_with_the_flags():
  yaml = pytest.importorskip("yaml")
  manifest = yaml.safe_load((ROOT / "scripts" / "jobset.yaml").read_text())
  name = manifest["metadata"]["name"]
  [replicated] = manifest["spec"]["replicatedJobs"]
  job = replicated["template"]["spec"]
  [trainer] = job["template"]["spec"]["containers"]
  env = {variable["name"]: variable for variable in trainer["env"]}
  assert env.keys() == set(process_places.FLAGS.values())
  address = env["JAX_COORDINATOR_ADDRESS"]["value"]
  assert address == f"{name}-{replicated['name']}-0-0.{name}:8476"
  count = int(env["JAX_NUM_PROCESSES"]["value"])
  assert job["parallelism"] == job["completions"] == count
  field = env["JAX_PROCESS_ID"]["valueFrom"]["fieldRef"]["fieldPath"]
  assert "job-completion-index" in field and job["completionMode"] == "Indexed"
  # 75 fails the job by its policy, which the JobSet answers with a start without limit.
  codes = job["podFailurePolicy"]["rules"][0]
  assert codes["onExitCodes"]["values"] == [75]
  assert codes["onExitCodes"]["containerName"] == trainer["name"]
  [rule] = manifest["spec"]["failurePolicy"]["rules"]
  assert rule["action"] == "RestartJobSetAndIgnoreMaxRestarts"
  assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]
  mounted = {mount["name"] for mount in trainer["volumeMounts"]}
  assert mounted == {v["name"] for v in job["template"]["spec"]["volumes"]}


@pytest.mark.parametrize("script", ["tpu_vm", "slurm.sh"])
def test_the_scripts_are_sound(script):
  path = ROOT / "scripts" / script
  assert subprocess.run(["bash", "-n", path]).returncode == 0
  if shutil.which("shellcheck"):
    done = subprocess.run(["shellcheck", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
