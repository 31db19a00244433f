"""What this machine is."""

import json
import os
import platform
import subprocess
import sys

from workbench.machine import Gpu, Machine, cpu_features, this_machine, usable_cores


def test_this_machine_is_described() -> None:
    machine = this_machine()
    assert machine.cpu
    assert machine.python == platform.python_version()
    assert machine.system == f"{platform.system()} {platform.machine()}"
    assert 1 <= machine.cores <= (os.cpu_count() or 1)


def test_a_gpu_comes_with_a_driver_that_tells_its_cuda_release() -> None:
    machine = this_machine()
    assert not machine.gpus or machine.cuda_version
    assert all(gpu.memory_bytes > 0 and "." in gpu.compute_capability for gpu in machine.gpus)


def test_only_the_cores_of_this_process_count() -> None:
    if not hasattr(os, "sched_setaffinity"):
        assert usable_cores() == os.cpu_count()
        return
    pin = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])"
    code = f"{pin}; from workbench.machine import usable_cores; print(usable_cores())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "1\n"


def test_processor_features_are_sorted_names() -> None:
    features = cpu_features()
    assert list(features) == sorted(set(features))
    if platform.machine() == "x86_64" and sys.platform == "linux":
        assert "sse2" in features


def test_a_machine_is_json_and_a_line() -> None:
    gpu = Gpu("NVIDIA L4", "8.9", 24 << 30)
    machine = Machine("Xeon", 8, "Linux x86_64", "3.11.7", (gpu,), "13.0")
    assert json.loads(json.dumps(machine.to_json()))["gpus"] == [
        {"name": "NVIDIA L4", "compute_capability": "8.9", "memory_bytes": 24 << 30}
    ]
    assert str(machine) == "Xeon, 8 cores, NVIDIA L4, Linux x86_64, Python 3.11.7"
    assert "no NVIDIA GPU" in str(Machine("Xeon", 8, "Linux x86_64", "3.11.7", (), None))
